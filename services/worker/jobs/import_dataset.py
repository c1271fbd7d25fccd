"""``import-dataset``: an uploaded archive or video becomes a data set."""

import time
from dataclasses import asdict

from services.worker.datasets.archives import ArchiveLimits, ArchiveRejectedError
from services.worker.datasets.contact_sheet import contact_sheet
from services.worker.datasets.importing import Intake, take_in
from services.worker.datasets.layouts.coco import MOST_JSON_BYTES
from services.worker.datasets.packs import PackedDataset, write_pack
from services.worker.datasets.report import Change
from services.worker.jobs.kit.provenance import device_name, versions
from services.worker.runtime.context import JobContext
from shared.dataset_card import DatasetCard
from shared.db.queries import new_id
from shared.images import ImageLimits
from shared.problems import Problem
from shared.results import Timing
from shared.results.import_dataset import (
    DatasetReport,
    ImportDatasetResult,
    LeftOut,
    LeftOutReason,
)
from shared.specs.import_dataset import ImportDatasetSpec

SHOWN_LEFT_OUT = 100
SHEET = "contact-sheet.jpg"


def run(context: JobContext, spec: ImportDatasetSpec) -> ImportDatasetResult:
    """Take in what the job was created with."""
    began = time.monotonic()
    taken = _take_in(context, spec)
    context.progress(99, 100, "storing")
    card = DatasetCard(
        id=new_id("ds"),
        name=spec.name,
        layout=taken.layout,
        classes=taken.classes,
        items=tuple(taken.items),
    )
    pack = write_pack(card, ((item.name, taken.bytes_of(item)) for item in card.items))
    sheet = contact_sheet(PackedDataset(pack), check=context.check)
    counts = card.counts()
    totals = [sum(split[name] for split in counts.values()) for name in card.classes]
    result = ImportDatasetResult(
        parameters=spec.model_dump(mode="json"),
        models=(),
        device=device_name(context.device),
        versions=versions(),
        timing=Timing(total=round(time.monotonic() - began, 4)),
        main_artifact=context.put_artifact(SHEET, sheet, "image/jpeg"),
        warnings=_warnings(taken, counts),
        dataset=card.id,
        layout=card.layout,
        classes=card.classes,
        images=len(card.items),
        counts=counts,
        balance=min(totals) / max(totals) if max(totals, default=0) else None,
        duplicates=taken.duplicates,
        near_duplicates=len(card.items) - len({item.group for item in card.items}),
        leaks=taken.leaks,
        left_out=tuple(
            LeftOut(path=path[:300], reason=reason)
            for path, reason in taken.left_out[:SHOWN_LEFT_OUT]
        ),
        left_out_total=len(taken.left_out),
        report=_report(taken),
    )
    summary = result.model_dump(
        mode="json",
        include={
            *("counts", "balance", "duplicates", "near_duplicates", "leaks", "left_out_total"),
            "report",
        },
    )
    context.save_dataset(
        card, pack, summary=summary, contact_sheet=sheet, keep_seconds=spec.keep_seconds
    )
    return result


def _take_in(context: JobContext, spec: ImportDatasetSpec) -> Intake:
    settings = context.settings
    images = ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)
    files = ArchiveLimits(
        files=settings.max_dataset_images,
        file_bytes=max(settings.max_image_bytes, MOST_JSON_BYTES),
        total_bytes=settings.max_dataset_bytes,
    )
    layout = None if spec.layout == "auto" else spec.layout
    try:
        with context.upload() as file:
            return take_in(
                file,
                layout=layout,
                label=spec.label,
                frames_per_second=spec.frames_per_second,
                frames=spec.frames,
                images=images,
                archive=files,
                seed=spec.seed,
                progress=context.progress,
                check=context.check,
            )
    except ArchiveRejectedError as error:
        raise Problem("invalid-archive", f"The upload is refused: {error}.") from error


def _report(taken: Intake) -> DatasetReport:
    report = taken.report
    return DatasetReport(
        format=taken.format,
        boxes=sum(len(item.boxes) for item in taken.items),
        boxes_turned=report.changes[Change.TURNED],
        boxes_scaled=report.changes[Change.SCALED],
        boxes_clipped=report.changes[Change.CLIPPED],
        boxes_left_out=report.boxes_left_out,
        files_left_out=len(report.left_out),
        files_ignored=report.ignored,
        left_out=tuple(LeftOutReason(**asdict(tally)) for tally in report.tallies()),
        notes=tuple(report.notes),
    )


def _warnings(taken: Intake, counts: dict[str, dict[str, int]]) -> tuple[str, ...]:
    found = []
    if taken.left_out:
        found.append(f"{len(taken.left_out)} files are not part of the data set: see `left_out`")
    if taken.report.boxes_left_out:
        found.append(f"{taken.report.boxes_left_out} boxes were left out: see `report`")
    found += taken.report.notes
    if taken.leaks:
        found.append(
            f"{taken.leaks} images of train or val look like images of a later split and were "
            "left out"
        )
    if len(taken.classes) < 2:
        found.append("there is one class only: training needs another data set beside this one")
    found += [
        f"{split} has no example of {name}"
        for split, numbers in counts.items()
        for name, number in numbers.items()
        if not number
    ]
    return tuple(found)
