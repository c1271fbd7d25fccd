"""COCO (detection): one JSON file of many photos, as CVAT, Roboflow and Label Studio write it."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from services.worker.datasets.archives import ArchiveRejectedError
from services.worker.datasets.boxes import Annotation, RawBox
from services.worker.datasets.layouts.base import (
    Example,
    Files,
    Reading,
    check_count,
    is_picture,
    source_of,
    split_named,
    split_of,
)
from services.worker.datasets.layouts.pairing import PhotoIndex
from services.worker.datasets.report import Reason, Report
from services.worker.datasets.texts import read_json
from shared.dataset_card import Split

NAME = "COCO"
MOST_JSON_BYTES = 64 * 2**20
_PARTS = ("images", "annotations", "categories")
_IGNORED_FILES = ("readme.dataset.txt", "readme.roboflow.txt")


def is_document(document: Any) -> bool:
    """Whether a JSON document has the parts of COCO's detection task."""
    return isinstance(document, dict) and all(
        isinstance(document.get(part), list) for part in _PARTS
    )


def has_boxes(document: Any) -> bool:
    """Whether one of a COCO document's objects has a box or an outline."""
    return any(
        isinstance(entry, dict) and ("bbox" in entry or entry.get("segmentation"))
        for entry in document["annotations"]
    )


def paths_of(files: Files) -> list[str]:
    """Return the files that may be COCO's; raises ``ArchiveRejectedError`` for one too large."""
    return [path for path in files.paths if path.lower().endswith(".json")]


def read(files: Files, report: Report) -> Reading:
    """Read the photos and boxes of all COCO documents of an archive."""
    reading = Reading("boxes", NAME)
    pictures = [path for path in files.paths if is_picture(path)]
    index = PhotoIndex(pictures)
    found: dict[str, list[Annotation]] = {}
    splits: dict[str, Split] = {}
    documents = _documents(files, reading, report)
    for path in documents:
        document = read_json(files.read(path))
        split = split_of(path) or _split_in_name(path)
        for photo, annotation in _annotations(document, path, index, report):
            found.setdefault(photo, []).append(annotation)
            if split is not None:
                splits.setdefault(photo, split)
    joined = {photo: _joined(annotations) for photo, annotations in found.items()}
    check_count(joined.values())
    reading.own |= {
        path for path in files.paths if PurePosixPath(path).name.lower() in _IGNORED_FILES
    }
    for path in pictures:
        if path not in joined:
            reading.own.add(path)
            report.file(path, Reason.NO_ANNOTATION, "no COCO file names it")
            continue
        reading.examples.append(
            Example(
                path,
                split_of(path) or splits.get(path),
                source=source_of(path),
                annotation=joined[path],
            )
        )
    return reading


def _documents(files: Files, reading: Reading, report: Report) -> list[str]:
    """Return the paths of the documents to read: where there are ``instances_…``, only those."""
    found = []
    for path in paths_of(files):
        data = files.read(path)
        if len(data) > MOST_JSON_BYTES:
            raise ArchiveRejectedError(f"{path[:100]!r} has more than {MOST_JSON_BYTES} bytes")
        try:
            document = read_json(data)
        except ValueError as error:
            reading.own.add(path)
            report.file(path, Reason.UNREADABLE_ANNOTATION, str(error))
            continue
        if is_document(document):
            reading.own.add(path)
            if has_boxes(document):
                found.append(path)
    instances = [path for path in found if PurePosixPath(path).name.startswith("instances_")]
    return instances or found


def _annotations(
    document: dict[str, Any], path: str, index: PhotoIndex, report: Report
) -> Iterable[tuple[str, Annotation]]:
    """Yield the photos of a document with their boxes."""
    names = {
        key: str(entry.get("name") or "").strip()[:100]
        for entry in document["categories"]
        if isinstance(entry, dict) and (key := _key(entry.get("id"))) is not None
    }
    boxes: dict[str, list[RawBox]] = {}
    for entry in document["annotations"]:
        if isinstance(entry, dict) and (image := _key(entry.get("image_id"))) is not None:
            box = _box(entry, names, path, report)
            if box is not None:
                boxes.setdefault(image, []).append(box)
        else:
            report.box(path, Reason.NO_PHOTO, "an object names no photo")
    for entry in document["images"]:
        if not isinstance(entry, dict):
            continue
        stated = entry.get("file_name")
        mine = boxes.pop(_key(entry.get("id")) or "", [])
        photos = index.find(stated, beside=path) if isinstance(stated, str) else []
        if len(photos) != 1:
            told = f"{path}: {stated}"[:300]
            report.file(told, Reason.AMBIGUOUS_PHOTO if photos else Reason.NO_PHOTO)
            continue
        size = _number(entry.get("width")), _number(entry.get("height"))
        yield photos[0], Annotation(path, tuple(mine), size=size)
    for rest in boxes.values():
        report.box(
            path, Reason.NO_PHOTO, "objects name a photo that is not listed", count=len(rest)
        )


def _box(entry: dict[str, Any], names: dict[str, str], path: str, report: Report) -> RawBox | None:
    if entry.get("iscrowd") in (1, True):
        report.box(path, Reason.CROWD)
        return None
    category = _key(entry.get("category_id"))
    if category not in names:
        report.box(path, Reason.UNKNOWN_CLASS, f"category {str(entry.get('category_id'))[:40]}")
        return None
    label = names[category]
    values = entry.get("bbox")
    if values:
        if not isinstance(values, list) or len(values) != 4:
            report.box(path, Reason.NOT_NUMBERS)
            return None
        x, y, width, height = map(_number, values)
        return RawBox(label, x, y, x + width, y + height)
    outlines = entry.get("segmentation")
    if not isinstance(outlines, list) or not all(isinstance(one, list) for one in outlines):
        report.box(path, Reason.NO_BOX)
        return None
    across = [_number(value) for one in outlines for value in one[0::2]]
    down = [_number(value) for one in outlines for value in one[1::2]]
    if not across or not down:
        report.box(path, Reason.NO_BOX)
        return None
    return RawBox(label, min(across), min(down), max(across), max(down))


def _joined(annotations: list[Annotation]) -> Annotation:
    """Put together what several documents say of one photo; equal boxes once."""
    first = annotations[0]
    if len(annotations) == 1:
        return first
    boxes = dict.fromkeys(box for one in annotations for box in one.boxes)
    return Annotation(first.path, tuple(boxes), size=first.size)


def _key(value: Any) -> str | None:
    """Return an id as it is compared: some programs write numbers here and strings there."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return str(value)[:100]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return float("nan")
    try:
        return float(value)
    except (ValueError, OverflowError):
        return float("nan")


def _split_in_name(path: str) -> Split | None:
    words = re.split(r"[-_. ]+", PurePosixPath(path).stem)
    return next((split for word in words if (split := split_named(word))), None)
