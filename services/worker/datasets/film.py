"""A short video becomes a data set: frames of one label, never divided."""

from collections.abc import Callable
from typing import IO

from services.worker.datasets.archives import ArchiveRejectedError
from services.worker.datasets.intake import Intake, Say
from services.worker.datasets.report import Reason, Report
from services.worker.datasets.spool import Spool
from services.worker.datasets.video import sampled_frames
from shared.dataset_card import DatasetItem
from shared.images import ImageLimits, ImageRejectedError, sanitize


def take_in_film(
    file: IO[bytes],
    *,
    label: str | None,
    frames_per_second: float,
    frames: int,
    images: ImageLimits,
    total_bytes: int,
    say: Say,
    check: Callable[[], None],
) -> Intake:
    """Take frames of a video in; raises ``ArchiveRejectedError``."""
    if label is None:
        raise ArchiveRejectedError("a video needs a `label`: what all its frames show")
    items: list[DatasetItem] = []
    report, clean = Report(), Spool()
    sampled = sampled_frames(
        file, per_second=frames_per_second, most=frames, max_pixels=images.max_pixels, check=check
    )
    for number, encoded in enumerate(sampled):
        say(min(95, 95 * number // frames), 100, f"{number} frames")
        path = f"frame {number}"
        try:
            stored = sanitize(encoded, images)
        except ImageRejectedError as error:
            report.file(path, Reason.UNREADABLE_PICTURE, str(error))
            continue
        name = f"images/{len(items):06d}"
        clean.add(name, stored.data)
        if clean.size > total_bytes:
            raise ArchiveRejectedError(
                f"the video's frames take more than {total_bytes} bytes: take fewer of them"
            )
        items.append(
            DatasetItem(
                name=name,
                width=stored.width,
                height=stored.height,
                sha256=stored.sha256,
                orientation=stored.orientation,
                split="train",
                label=label,
                # Frames of one video are alike in ways that no hash sees: they are never divided.
                group=0,
                path=path,
            )
        )
    if not items:
        why = "none can be decoded"
        if report.left_out:
            why = f"none can be used; {report.left_out[0][1]}"
        raise ArchiveRejectedError(f"of the video's frames {why}")
    return Intake("classes", "video", (label,), items, clean, report)
