"""Takes strangers' pictures in: an archive or a video becomes clean, grouped, split examples."""

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import IO

from services.worker.datasets.archives import (
    Archive,
    ArchiveLimits,
    ArchiveRejectedError,
    archive_type,
    shown,
)
from services.worker.datasets.collecting import Picture, collect
from services.worker.datasets.dividing import draw_splits, without_leaks
from services.worker.datasets.film import take_in_film
from services.worker.datasets.intake import Intake, Say
from services.worker.datasets.layouts.base import PLAIN_FOLDERS, SPLITS, Reading, is_picture
from services.worker.datasets.layouts.recognize import Wanted, read_layout
from services.worker.datasets.near_duplicates import near_duplicate_groups
from services.worker.datasets.report import Reason, Report
from services.worker.datasets.spool import Spool
from services.worker.datasets.video import is_video
from shared.dataset_card import DatasetItem
from shared.images import ImageLimits

MOST_CLASSES = 20_000
# Pictures that are stored as PNG may take more than they did.
STORED_SHARE = 2


def take_in(
    file: IO[bytes],
    *,
    layout: Wanted | None = None,
    label: str | None = None,
    frames_per_second: float = 1.0,
    frames: int = 300,
    images: ImageLimits,
    archive: ArchiveLimits,
    seed: int = 0,
    progress: Say | None = None,
    check: Callable[[], None] | None = None,
) -> Intake:
    """Read an archive or a video; ``layout`` is found out where it is not given.

    Each picture is checked and stripped as an upload is; one that fails is left out and named.
    Exact copies are left out. Near-duplicates share a group, and a group stays on one side of the
    split: of a given split, the later one (test, then val) keeps it; where none is given, 70, 15
    and 15 % of each class are drawn by ``seed``. Raises ``ArchiveRejectedError``.
    """
    say, stop = progress or _unheard, check or _unstopped
    file.seek(0)
    head = file.read(4096)
    file.seek(0)
    if archive_type(head[:512]) is None and is_video(head):
        return take_in_film(
            file,
            label=label,
            frames_per_second=frames_per_second,
            frames=frames,
            images=images,
            total_bytes=archive.total_bytes,
            say=say,
            check=stop,
        )
    report, files, clean = Report(), Spool(), Spool()
    _unpack(Archive(file, archive), files, report, say, stop)
    _cut_root(files)
    reading = read_layout(files, report, layout)
    each = _Counter(len(reading.examples), say, stop)
    pictures = collect(
        files,
        reading,
        clean,
        report,
        limits=images,
        most_bytes=STORED_SHARE * archive.total_bytes,
        each=each,
    )
    return _finished(reading, pictures, clean, report, seed, stop)


def _unheard(done: int, total: int, message: str = "") -> None:
    del done, total, message


def _unstopped() -> None:
    pass


class _Counter:
    """Tells how many pictures are done, now and then."""

    def __init__(self, total: int, say: Say, stop: Callable[[], None]) -> None:
        self._total, self._say, self._stop = max(1, total), say, stop
        self._done = 0

    def __call__(self) -> None:
        self._stop()
        self._done += 1
        if self._done % 20 == 0:
            self._say(95 * self._done // self._total, 100, f"{self._done} files checked")


def _unpack(
    archive: Archive, files: Spool, report: Report, say: Say, stop: Callable[[], None]
) -> None:
    for number, member in enumerate(archive.files()):
        stop()
        files.add(member.path, member.data)
        if number % 100 == 99:
            say(0, 100, f"{number + 1} files unpacked")
    report.ignored = archive.ignored
    if not files.paths:
        raise ArchiveRejectedError("the archive holds no files")


def _cut_root(files: Spool) -> None:
    """Cut off folders that all pictures lie in, as long as those are no split and no class.

    What lies beside such a folder, or loose in it, does not make it a class: half of the pictures
    have to lie deeper.
    """
    while True:
        pictures = [p for p in map(PurePosixPath, files.paths) if is_picture(p.name)]
        first = {path.parts[0] for path in pictures}
        deep = sum(len(path.parts) >= 3 for path in pictures)
        if len(first) != 1 or 2 * deep < len(pictures):
            return
        root = first.pop()
        if root.lower() in SPLITS or root.lower() in PLAIN_FOLDERS:
            return
        names = {
            path: "/".join(parts[1:])
            for path in files.paths
            if len(parts := PurePosixPath(path).parts) > 1 and parts[0] == root
        }
        if set(names.values()) & (set(files.paths) - names.keys()):
            return
        files.rename(names)


def _finished(
    reading: Reading,
    pictures: Sequence[Picture],
    clean: Spool,
    report: Report,
    seed: int,
    stop: Callable[[], None],
) -> Intake:
    """Group, split and number what was collected."""
    if not pictures:
        told = f"none of its {len(report.left_out)} files can be used"
        if report.left_out:
            path, why = report.left_out[0]
            told += f"; {shown(path)}: {why}"
        raise ArchiveRejectedError(told)
    classes = _classes(pictures)
    groups = near_duplicate_groups(
        [picture.hash for picture in pictures], progress=lambda *_: stop()
    )
    if any(picture.split for picture in pictures):
        kept = without_leaks(pictures, groups)
    else:
        draw_splits(pictures, groups, seed)
        kept = list(range(len(pictures)))
    for number in sorted(set(range(len(pictures))) - set(kept)):
        report.count(pictures[number].example.path, Reason.LEAK)
    items: list[DatasetItem] = []
    names: dict[str, str] = {}
    for number in kept:
        picture = pictures[number]
        name = f"images/{number:06d}"
        items.append(picture.item(name, groups[number]))
        names[picture.example.path] = name
    clean.rename(names)
    return Intake(
        reading.layout,
        reading.format,
        classes,
        items,
        clean,
        report,
        duplicates=report.files(Reason.COPY),
        leaks=len(pictures) - len(kept),
    )


def _classes(pictures: Sequence[Picture]) -> tuple[str, ...]:
    found = {picture.label for picture in pictures if picture.label is not None}
    found |= {box.label for picture in pictures for box in picture.boxes}
    if not found:
        raise ArchiveRejectedError("no picture has a label")
    if len(found) > MOST_CLASSES:
        raise ArchiveRejectedError(f"there are more than {MOST_CLASSES} classes")
    return tuple(sorted(found))


__all__ = ["Intake", "take_in"]
