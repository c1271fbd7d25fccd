"""Takes strangers' pictures in: an archive or a video becomes clean, grouped, split examples."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import IO, Literal, Protocol

import numpy as np

from services.worker.datasets.archives import (
    ArchivedFile,
    ArchiveLimits,
    ArchiveRejectedError,
    archive_type,
    archived_files,
)
from services.worker.datasets.near_duplicates import Hash, near_duplicate_groups, picture_hash
from services.worker.datasets.video import is_video, sampled_frames
from services.worker.datasets.voc import (
    PICTURES,
    PLAIN_FOLDERS,
    is_annotation,
    photos_of,
    read_boxes,
)
from shared.dataset_card import DatasetItem, LabeledBox, Split
from shared.images import ImageLimits, ImageRejectedError, StoredImage, decode_rgb, sanitize

Layout = Literal["classes", "boxes", "identities"]
_SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_SHARES: tuple[tuple[Split, float], ...] = (("train", 0.7), ("val", 0.15), ("test", 0.15))
_LATER: dict[Split, int] = {"train": 0, "val": 1, "test": 2}
_MOST_CLASSES = 20_000
_HASHED_SIDE = 256


class Report(Protocol):
    """Is told how far the work is."""

    def __call__(self, done: int, total: int, message: str = "") -> None: ...


@dataclass
class _Picture:
    """A clean picture on its way in."""

    path: str
    stored: StoredImage
    split: Split | None
    label: str | None
    hash: Hash
    source: str = ""
    boxes: tuple[LabeledBox, ...] = ()


@dataclass
class Intake:
    """What was taken in."""

    layout: Layout
    classes: tuple[str, ...]
    items: list[DatasetItem]
    duplicates: int
    leaks: int
    left_out: list[tuple[str, str]]
    _bytes: dict[str, bytes] = field(default_factory=dict)

    def bytes_of(self, item: DatasetItem) -> bytes:
        """Return an item's clean bytes."""
        return self._bytes[item.name]


def take_in(
    file: IO[bytes],
    *,
    layout: Layout | None = None,
    label: str | None = None,
    frames_per_second: float = 1.0,
    frames: int = 300,
    images: ImageLimits,
    archive: ArchiveLimits,
    seed: int = 0,
    progress: Report | None = None,
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
        most = archive.total_bytes
        return _video(file, label, frames_per_second, frames, images, most, say, stop)
    files = _without_root(_read_all(file, archive, say, stop))
    chosen = layout or ("boxes" if any(is_annotation(f.path) for f in files) else "classes")
    collector = _Collector(images, say, stop, total=len(files))
    if chosen == "boxes":
        collector.boxes(files)
    else:
        collector.folders(files)
    return collector.finish(chosen, seed)


def _unheard(done: int, total: int, message: str = "") -> None:
    del done, total, message


def _unstopped() -> None:
    pass


def _read_all(
    file: IO[bytes], limits: ArchiveLimits, say: Report, stop: Callable[[], None]
) -> list[ArchivedFile]:
    found = []
    for member in archived_files(file, limits):
        stop()
        found.append(member)
        if len(found) % 100 == 0:
            say(0, 100, f"{len(found)} files unpacked")
    if not found:
        raise ArchiveRejectedError("the archive holds no files")
    return found


def _without_root(files: list[ArchivedFile]) -> list[ArchivedFile]:
    """Cut off folders that all files lie in, as long as those are no split and no class."""
    while True:
        parts = [PurePosixPath(member.path).parts for member in files]
        first = {part[0] for part in parts}
        deep = min(len(part) for part in parts) >= 3
        if len(first) != 1 or not deep or first.pop().lower() in _SPLITS:
            return files
        files = [
            replace(member, path="/".join(part[1:]))
            for member, part in zip(files, parts, strict=True)
        ]


class _Collector:
    def __init__(
        self, limits: ImageLimits, say: Report, stop: Callable[[], None], *, total: int
    ) -> None:
        self._limits, self._say, self._stop, self._total = limits, say, stop, total
        self._pictures: list[_Picture] = []
        self._seen: set[str] = set()
        self._duplicates = 0
        self._left_out: list[tuple[str, str]] = []
        self._done = 0

    def folders(self, files: Sequence[ArchivedFile]) -> None:
        """Collect ``[split/]class/[source/…/]file``."""
        for member in files:
            *folders, _ = PurePosixPath(member.path).parts
            split = _SPLITS.get(folders[0].lower()) if folders else None
            names = folders[1:] if split else folders
            if not names:
                self._leave_out(member.path, "it lies in no class folder")
                continue
            self.add(member, split=split, label=names[0][:100], source="".join(names[1:2]))

    def boxes(self, files: Sequence[ArchivedFile]) -> None:
        """Collect photos whose Pascal VOC files have the same name, but for the ending."""
        photos = photos_of(files)
        annotations = {photo: path for path, photo in photos.items()}
        data = {member.path: member.data for member in files if member.path in photos}
        for member in files:
            if is_annotation(member.path):
                if member.path not in photos:
                    self._leave_out(member.path, "there is no photo for it")
                continue
            annotation = annotations.get(member.path)
            if annotation is None:
                self._leave_out(member.path, "there is no XML file for it")
                continue
            folders = PurePosixPath(member.path).parts[:-1]
            split = _SPLITS.get(folders[0].lower()) if folders else None
            picture = self.add(member, split=split, label=None, source=_source(folders))
            if picture is None:
                continue
            try:
                picture.boxes = read_boxes(
                    data[annotation], width=picture.stored.width, height=picture.stored.height
                )
            except ValueError as error:
                self._pictures.pop()
                self._leave_out(annotation, str(error))

    def add(
        self, member: ArchivedFile, *, split: Split | None, label: str | None, source: str
    ) -> _Picture | None:
        """Check and strip one picture."""
        self._stop()
        self._done += 1
        if self._done % 20 == 0:
            self._say(95 * self._done // max(1, self._total), 100, f"{self._done} files checked")
        try:
            stored = sanitize(member.data, self._limits)
            pixels = decode_rgb(
                stored.data, stored.orientation, limits=self._limits, max_side=_HASHED_SIDE
            )
        except ImageRejectedError as error:
            reason = str(error) if member.path.lower().endswith(PICTURES) else "it is no picture"
            self._leave_out(member.path, reason)
            return None
        if stored.sha256 in self._seen:
            self._duplicates += 1
            self._leave_out(member.path, "it repeats another file")
            return None
        self._seen.add(stored.sha256)
        picture = _Picture(member.path, stored, split, label, picture_hash(pixels), source[:100])
        self._pictures.append(picture)
        return picture

    def _leave_out(self, path: str, reason: str) -> None:
        self._left_out.append((path, reason))

    def finish(self, layout: Layout, seed: int) -> Intake:
        """Group, split and number what was collected."""
        if not self._pictures:
            example = self._left_out[0]
            raise ArchiveRejectedError(
                f"none of its {len(self._left_out)} files can be used; "
                f"{example[0][:100]!r}: {example[1]}"
            )
        classes = _classes(self._pictures)
        groups = near_duplicate_groups([picture.hash for picture in self._pictures])
        if any(picture.split for picture in self._pictures):
            kept = _without_leaks(self._pictures, groups)
        else:
            _draw_splits(self._pictures, groups, seed)
            kept = list(range(len(self._pictures)))
        leaks = len(self._pictures) - len(kept)
        items, data = [], {}
        for number in kept:
            picture = self._pictures[number]
            item = _item(picture, f"images/{number:06d}", groups[number])
            items.append(item)
            data[item.name] = picture.stored.data
        return Intake(layout, classes, items, self._duplicates, leaks, self._left_out, data)


def _source(folders: Sequence[str]) -> str:
    """Return which folder of photos is told apart in reports: none where they lie together."""
    plain = {*PLAIN_FOLDERS, *_SPLITS}
    return next((name for name in folders if name.lower() not in plain), "")


def _item(picture: _Picture, name: str, group: int) -> DatasetItem:
    stored = picture.stored
    return DatasetItem(
        name=name,
        width=stored.width,
        height=stored.height,
        sha256=stored.sha256,
        orientation=stored.orientation,
        split=picture.split or "train",
        label=picture.label,
        boxes=picture.boxes,
        group=group,
        source=picture.source,
        path=picture.path[:300],
    )


def _classes(pictures: Sequence[_Picture]) -> tuple[str, ...]:
    found = {picture.label for picture in pictures if picture.label is not None}
    found |= {box.label for picture in pictures for box in picture.boxes}
    if not found:
        raise ArchiveRejectedError("no picture has a label")
    if len(found) > _MOST_CLASSES:
        raise ArchiveRejectedError(f"there are more than {_MOST_CLASSES} classes")
    return tuple(sorted(found))


def _without_leaks(pictures: Sequence[_Picture], groups: Sequence[int]) -> list[int]:
    """Return the numbers of the pictures to keep: of each group those of its latest split."""
    latest: dict[int, int] = {}
    for picture, group in zip(pictures, groups, strict=True):
        latest[group] = max(latest.get(group, 0), _LATER[picture.split or "train"])
    return [
        number
        for number, (picture, group) in enumerate(zip(pictures, groups, strict=True))
        if _LATER[picture.split or "train"] == latest[group]
    ]


def _draw_splits(pictures: Sequence[_Picture], groups: Sequence[int], seed: int) -> None:
    """Divide the groups of each class among the splits; a photo counts for its rarest class."""
    rarity = Counter(
        label for picture in pictures for label in (picture.label, *_labels(picture)) if label
    )
    members: dict[int, list[_Picture]] = {}
    for picture, group in zip(pictures, groups, strict=True):
        members.setdefault(group, []).append(picture)
    by_class: dict[str, list[list[_Picture]]] = {}
    for alike in members.values():
        labels = [name for p in alike for name in (p.label, *_labels(p)) if name]
        name = min(labels, key=lambda label: (rarity[label], label), default="")
        by_class.setdefault(name, []).append(alike)
    generator = np.random.default_rng(seed)
    for name in sorted(by_class):
        mine = by_class[name]
        total = sum(map(len, mine))
        done = 0
        for place in generator.permutation(len(mine)):
            middle = (done + len(mine[place]) / 2) / total
            done += len(mine[place])
            split = next(split for split, end in _ends() if middle < end)
            for picture in mine[place]:
                picture.split = split


def _labels(picture: _Picture) -> tuple[str, ...]:
    return tuple(box.label for box in picture.boxes)


def _ends() -> Iterator[tuple[Split, float]]:
    end = 0.0
    for split, share in _SHARES:
        end += share
        yield split, end + (1.0 if split == _SHARES[-1][0] else 0.0)


def _video(
    file: IO[bytes],
    label: str | None,
    frames_per_second: float,
    frames: int,
    images: ImageLimits,
    total_bytes: int,
    say: Report,
    stop: Callable[[], None],
) -> Intake:
    if label is None:
        raise ArchiveRejectedError("a video needs a `label`: what all its frames show")
    items: list[DatasetItem] = []
    data: dict[str, bytes] = {}
    left_out: list[tuple[str, str]] = []
    size = 0
    sampled = sampled_frames(
        file, per_second=frames_per_second, most=frames, max_pixels=images.max_pixels, check=stop
    )
    for number, encoded in enumerate(sampled):
        say(min(95, 95 * number // frames), 100, f"{number} frames")
        try:
            stored = sanitize(encoded, images)
        except ImageRejectedError as error:
            left_out.append((f"frame {number}", str(error)))
            continue
        size += len(stored.data)
        if size > total_bytes:
            raise ArchiveRejectedError(
                f"the video's frames take more than {total_bytes} bytes: take fewer of them"
            )
        # Frames of one video are alike in ways that no hash sees: they are never divided.
        unused = (0, np.empty((0, 3), dtype=np.int16))
        picture = _Picture(f"frame {number}", stored, "train", label, unused)
        item = _item(picture, f"images/{len(items):06d}", 0)
        items.append(item)
        data[item.name] = stored.data
    if not items:
        why = f"none can be used; {left_out[0][1]}" if left_out else "none can be decoded"
        raise ArchiveRejectedError(f"of the video's frames {why}")
    return Intake("classes", (label,), items, 0, 0, left_out, data)


__all__ = ["Intake", "Layout", "take_in"]
