"""What every layout's reader takes and returns."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Protocol

from services.worker.datasets.archives import ArchiveRejectedError
from services.worker.datasets.boxes import Annotation
from services.worker.datasets.report import Report
from shared.dataset_card import Layout, Split

PICTURES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(".heic", ".heif", ".avif", ".jp2", ".jxl"),
)
# Folders that tell photos and their boxes apart, and say nothing of where they come from.
PLAIN_FOLDERS = frozenset(
    {
        *("images", "image", "imgs", "img", "jpegimages", "photos", "pictures", "data"),
        *("annotations", "annotation", "xml", "xmls", "labels", "label", "bboxes"),
    }
)
SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# Also ``obj_train_data`` of darknet and ``train2017`` of COCO.
_SPLIT = re.compile(rf"(?:obj_)?({'|'.join(SPLITS)})(?:[-_]?\d{{4}})?(?:_data)?", re.IGNORECASE)
# All boxes of a data set: more would not fit the memory of whoever trains on it.
MOST_BOXES_TOGETHER = 500_000


class Files(Protocol):
    """The unpacked files of an archive."""

    @property
    def paths(self) -> Sequence[str]:
        """The paths, in the archive's order."""

    def read(self, path: str) -> bytes:
        """Return a file's bytes."""


@dataclass(frozen=True)
class Example:
    """A picture and what its layout says of it; ``label`` of the whole, or ``annotation``."""

    path: str
    split: Split | None = None
    label: str | None = None
    source: str = ""
    annotation: Annotation | None = None


@dataclass
class Reading:
    """A data set as its layout describes it.

    ``format`` is the layout's own name. ``own`` are the files that belong to the layout itself,
    such as lists of classes.
    """

    layout: Layout
    format: str
    examples: list[Example] = field(default_factory=list)
    own: set[str] = field(default_factory=set)


class LayoutReader(Protocol):
    """Reads one layout."""

    def __call__(self, files: Files, report: Report) -> Reading:
        """Read it; raises ``ArchiveRejectedError`` where it cannot be."""


def is_picture(path: str) -> bool:
    """Whether a file is named like a picture."""
    return path.lower().endswith(PICTURES)


def folders_of(path: str) -> tuple[str, ...]:
    """Return the folders above a file."""
    return PurePosixPath(path).parts[:-1]


def split_named(name: str) -> Split | None:
    """Return the split that a folder or file is called after."""
    found = _SPLIT.fullmatch(name)
    return SPLITS[found[1].lower()] if found else None


def split_of(path: str) -> Split | None:
    """Return the split that one of a file's folders is called after; the outermost decides."""
    return next((split for name in folders_of(path) if (split := split_named(name))), None)


def source_of(path: str) -> str:
    """Return which folder of photos is told apart in reports: none where they lie together."""
    return next(
        (
            name
            for name in folders_of(path)
            if name.lower() not in PLAIN_FOLDERS and split_named(name) is None
        ),
        "",
    )


def check_count(annotations: Iterable[Annotation]) -> None:
    """Refuse more boxes than a data set may hold."""
    if sum(len(annotation.boxes) for annotation in annotations) > MOST_BOXES_TOGETHER:
        raise ArchiveRejectedError(f"there are more than {MOST_BOXES_TOGETHER} boxes")
