"""``import-dataset``: an uploaded archive or video becomes a data set."""

import time
from tempfile import TemporaryFile
from typing import Any, cast

from services.worker.datasets.importing import STORED_SHARE
from services.worker.datasets.layouts.coco import MOST_JSON_BYTES
from services.worker.datasets.packing import Packed
from services.worker.datasets.packs import PackedDataset
from services.worker.jobs.kit.isolated import import_isolated
from services.worker.jobs.kit.provenance import device_name, versions
from services.worker.runtime.context import JobContext
from services.worker.runtime.isolated import ProcessLimits
from shared.dataset_card import DatasetCard
from shared.db.queries import new_id
from shared.results import Timing
from shared.results.import_dataset import (
    DatasetReport,
    ImportDatasetResult,
    LeftOut,
    LeftOutReason,
)
from shared.settings import Settings
from shared.specs.import_dataset import ImportDatasetSpec

SHEET = "contact-sheet.jpg"
FUNCTION = "services.worker.datasets.packing:pack_upload"
# What a pack takes besides its pictures: the card, and the archive's own directory.
_CARD_BYTES = 256 * 2**20
# Of 20,000 classes most may lack examples somewhere.
MOST_WARNINGS = 100


def run(context: JobContext, spec: ImportDatasetSpec) -> ImportDatasetResult:
    """Take in what the job was created with."""
    began = time.monotonic()
    told, pack, sheet = _take_in(context, spec)
    context.progress(99, 100, "storing")
    card = PackedDataset(pack).card
    counts = card.counts()
    totals = [sum(split[name] for split in counts.values()) for name in card.classes]
    result = ImportDatasetResult(
        parameters=spec.model_dump(mode="json"),
        models=(),
        device=device_name(context.device),
        versions=versions(),
        timing=Timing(total=round(time.monotonic() - began, 4)),
        main_artifact=context.artifacts.put(SHEET, sheet, "image/jpeg"),
        warnings=_warnings(told, card, counts),
        dataset=card.id,
        layout=card.layout,
        classes=card.classes,
        images=len(card.items),
        counts=counts,
        balance=min(totals) / max(totals) if max(totals, default=0) else None,
        duplicates=told["duplicates"],
        near_duplicates=len(card.items) - len({item.group for item in card.items}),
        leaks=told["leaks"],
        left_out=tuple(LeftOut(path=path, reason=reason) for path, reason in told["left_out"]),
        left_out_total=told["left_out_total"],
        report=_report(told, card),
    )
    summary = result.model_dump(
        mode="json",
        include={
            *("counts", "balance", "duplicates", "near_duplicates", "leaks", "left_out_total"),
            "report",
        },
    )
    context.registry.save_dataset(
        card, pack, summary=summary, contact_sheet=sheet, keep_seconds=spec.keep_seconds
    )
    return result


def _take_in(context: JobContext, spec: ImportDatasetSpec) -> tuple[Packed, bytes, bytes]:
    """Return the report on the pack, the pack and the contact sheet."""
    with context.inputs.upload() as upload, TemporaryFile() as pack, TemporaryFile() as sheet:
        told = import_isolated(
            context,
            FUNCTION,
            _arguments(context.settings, spec),
            files=(upload, pack, sheet),
            limits=process_limits(context.settings),
            refusal="ArchiveRejectedError",
            problem="invalid-archive",
        )
        pack.seek(0)
        sheet.seek(0)
        return cast(Packed, told), pack.read(), sheet.read()


def process_limits(settings: Settings) -> ProcessLimits:
    """Return what an import may take."""
    return ProcessLimits(
        memory_bytes=settings.import_memory_bytes,
        file_bytes=STORED_SHARE * settings.max_dataset_bytes + _CARD_BYTES,
    )


def _arguments(settings: Settings, spec: ImportDatasetSpec) -> dict[str, Any]:
    return {
        "dataset_id": new_id("ds"),
        "name": spec.name,
        "layout": None if spec.layout == "auto" else spec.layout,
        "label": spec.label,
        "frames_per_second": spec.frames_per_second,
        "frames": spec.frames,
        "seed": spec.seed,
        "image_limits": {
            "max_bytes": settings.max_image_bytes,
            "max_pixels": settings.max_image_pixels,
        },
        "archive_limits": {
            "files": settings.max_dataset_images,
            "file_bytes": max(settings.max_image_bytes, MOST_JSON_BYTES),
            "total_bytes": settings.max_dataset_bytes,
        },
    }


def _report(told: Packed, card: DatasetCard) -> DatasetReport:
    return DatasetReport(
        format=told["format"],
        boxes=sum(len(item.boxes) for item in card.items),
        boxes_turned=told["boxes_turned"],
        boxes_scaled=told["boxes_scaled"],
        boxes_clipped=told["boxes_clipped"],
        boxes_left_out=told["boxes_left_out"],
        files_left_out=told["left_out_total"],
        files_ignored=told["ignored"],
        left_out=tuple(LeftOutReason.model_validate(reason) for reason in told["reasons"]),
        notes=tuple(told["notes"]),
    )


def _warnings(
    told: Packed, card: DatasetCard, counts: dict[str, dict[str, int]]
) -> tuple[str, ...]:
    found = []
    if told["left_out_total"]:
        found.append(f"{told['left_out_total']} files are not part of the data set: see `left_out`")
    if told["boxes_left_out"]:
        found.append(f"{told['boxes_left_out']} boxes were left out: see `report`")
    found += told["notes"]
    if told["leaks"]:
        found.append(
            f"{told['leaks']} images of train or val look like images of a later split and were "
            "left out"
        )
    if len(card.classes) < 2:
        found.append("there is one class only: training needs another data set beside this one")
    found += [
        f"{split} has no example of {name}"
        for split, numbers in counts.items()
        for name, number in numbers.items()
        if not number
    ][:MOST_WARNINGS]
    return tuple(found)
