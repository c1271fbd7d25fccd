"""From an upload to a pack, in one call with plain values: what imports run in another process."""

from dataclasses import asdict
from typing import IO, TypedDict

import numpy as np
from numpy.typing import NDArray

from services.worker.datasets.archives import ArchiveLimits
from services.worker.datasets.contact_sheet import contact_sheet
from services.worker.datasets.importing import take_in
from services.worker.datasets.intake import Intake, Say
from services.worker.datasets.layouts.recognize import Wanted
from services.worker.datasets.pack_file import write_pack_file
from services.worker.datasets.report import Change
from shared.dataset_card import DatasetCard, DatasetItem
from shared.images import ImageLimits, decode_rgb

MOST_LISTED = 100


class LeftOutFor(TypedDict):
    """What was left out for one reason."""

    reason: str
    sentence: str
    files: int
    boxes: int
    examples: list[str]


class Packed(TypedDict):
    """What is said of a pack beside its card."""

    format: str
    duplicates: int
    leaks: int
    ignored: int
    left_out: list[tuple[str, str]]  # the first ``MOST_LISTED``
    left_out_total: int
    boxes_left_out: int
    boxes_turned: int
    boxes_scaled: int
    boxes_clipped: int
    reasons: list[LeftOutFor]
    notes: list[str]


def pack_upload(
    upload: IO[bytes],
    pack: IO[bytes],
    sheet: IO[bytes],
    *,
    progress: Say,
    dataset_id: str,
    name: str,
    layout: Wanted | None,
    label: str | None,
    frames_per_second: float,
    frames: int,
    seed: int,
    image_limits: dict[str, int],
    archive_limits: dict[str, int],
) -> Packed:
    """Take ``upload`` in; write its ``pack`` and a contact ``sheet``.

    Raises ``ArchiveRejectedError``.
    """
    images = ImageLimits(**image_limits)
    taken = take_in(
        upload,
        layout=layout,
        label=label,
        frames_per_second=frames_per_second,
        frames=frames,
        images=images,
        archive=ArchiveLimits(**archive_limits),
        seed=seed,
        progress=progress,
    )
    progress(96, 100, "packing")
    card = DatasetCard(
        id=dataset_id,
        name=name,
        layout=taken.layout,
        classes=taken.classes,
        items=tuple(taken.items),
    )
    write_pack_file(pack, card, ((item.name, taken.bytes_of(item)) for item in card.items))

    def read(item: DatasetItem) -> NDArray[np.uint8]:
        return decode_rgb(taken.bytes_of(item), item.orientation, limits=images)

    sheet.write(contact_sheet(card, read))
    return _described(taken)


def _described(taken: Intake) -> Packed:
    report = taken.report
    return Packed(
        format=taken.format,
        duplicates=taken.duplicates,
        leaks=taken.leaks,
        ignored=report.ignored,
        left_out=report.left_out[:MOST_LISTED],
        left_out_total=len(report.left_out),
        boxes_left_out=report.boxes_left_out,
        boxes_turned=report.changes[Change.TURNED],
        boxes_scaled=report.changes[Change.SCALED],
        boxes_clipped=report.changes[Change.CLIPPED],
        reasons=[LeftOutFor(**asdict(tally)) for tally in report.tallies()],  # type: ignore[typeddict-item]
        notes=report.told(),
    )
