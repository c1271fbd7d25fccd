"""Pascal VOC files in strangers' archives: which photo each belongs to, and its boxes."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from defusedxml import DefusedXmlException, ElementTree

from services.worker.datasets.archives import ArchivedFile
from shared.dataset_card import LabeledBox

# Folders that tell photos and their boxes apart, and say nothing of where they come from.
PLAIN_FOLDERS = frozenset(
    {"images", "image", "jpegimages", "photos", "annotations", "xml", "labels"}
)
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_MOST_BOXES = 500


def is_annotation(path: str) -> bool:
    """Whether a file of an archive is a Pascal VOC file."""
    return path.lower().endswith(".xml")


def photos_of(files: Iterable[ArchivedFile]) -> dict[str, str]:
    """Return the path of the photo of each Pascal VOC file that has one.

    Both have the same name, but for the ending. Where several photos or files have one name, they
    have to lie in the same folder as well, but for ``PLAIN_FOLDERS``; what stays ambiguous belongs
    to nothing. Notes beside a photo (``1.txt``) do not make it ambiguous.
    """
    photos: dict[str, list[str]] = {}
    annotations: dict[str, list[str]] = {}
    for member in files:
        side = annotations if is_annotation(member.path) else photos
        side.setdefault(PurePosixPath(member.path).stem, []).append(member.path)
    found = {}
    for stem, mine in annotations.items():
        beside = photos.get(stem, [])
        named = [path for path in beside if path.lower().endswith(PICTURES)]
        beside = named or beside
        if len(mine) == len(beside) == 1:
            found[mine[0]] = beside[0]
            continue
        ours, theirs = _by_place(mine), _by_place(beside)
        for place, paths in ours.items():
            there = theirs.get(place, [])
            if len(paths) == len(there) == 1:
                found[paths[0]] = there[0]
    return found


def _by_place(paths: Iterable[str]) -> dict[tuple[str, ...], list[str]]:
    places: dict[tuple[str, ...], list[str]] = {}
    for path in paths:
        folders = PurePosixPath(path).parts[:-1]
        place = tuple(name for name in folders if name.lower() not in PLAIN_FOLDERS)
        places.setdefault(place, []).append(path)
    return places


def read_boxes(data: bytes, *, width: int, height: int) -> tuple[LabeledBox, ...]:
    """Return the boxes of a photo of ``width`` x ``height`` pixels; raises ``ValueError``.

    Entities are never expanded.
    """
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise ValueError("it is not a well-formed Pascal VOC file") from error
    boxes = []
    for entry in root.iter("object"):
        corners = entry.find("bndbox")
        label = (entry.findtext("name") or "").strip()[:100]
        if corners is None or not label:
            raise ValueError("an object has no name or no box")
        try:
            x0, y0, x1, y1 = (
                float(corners.findtext(key) or "nan") for key in ("xmin", "ymin", "xmax", "ymax")
            )
        except ValueError as error:
            raise ValueError("a box is not four numbers") from error
        # One pixel of grace: some tools count from 1, some from 0.
        inside = -1 <= x0 < x1 <= width + 1 and -1 <= y0 < y1 <= height + 1
        if not inside:
            raise ValueError(f"a box lies outside of the photo's {width} x {height} pixels")
        boxes.append(LabeledBox(label=label, x0=x0, y0=y0, x1=x1, y1=y1))
        if len(boxes) > _MOST_BOXES:
            raise ValueError(f"it has more than {_MOST_BOXES} boxes")
    return tuple(boxes)
