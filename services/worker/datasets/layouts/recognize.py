"""Tells data sets' layouts apart; one that is not read is refused by its name."""

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Literal

from services.worker.datasets.archives import ArchiveRejectedError
from services.worker.datasets.layouts import coco, cvat, folders, voc, yolo
from services.worker.datasets.layouts.base import (
    PLAIN_FOLDERS,
    Files,
    LayoutReader,
    Reading,
    folders_of,
    is_picture,
    split_named,
)
from services.worker.datasets.report import Report
from services.worker.datasets.texts import read_json, read_text, read_xml

# What may be asked for: ``boxes`` is whichever of the four below it is.
Wanted = Literal["classes", "identities", "boxes", "voc", "yolo", "coco", "cvat"]
_READERS: Mapping[str, LayoutReader] = {
    "voc": voc.read,
    "cvat": cvat.read,
    "coco": coco.read,
    "yolo": yolo.read,
}
_NAMES = {"voc": voc.NAME, "cvat": cvat.NAME, "coco": coco.NAME, "yolo": yolo.NAME}
_LOOKED_AT = 50
_READ = "Pascal VOC, YOLO, COCO and CVAT for images"


def read_layout(files: Files, report: Report, wanted: Wanted | None) -> Reading:
    """Read an archive in the layout that is wanted, or in the one that it is recognized to have.

    Raises ``ArchiveRejectedError`` where it has several, or one that is known and not read.
    """
    if wanted is not None and wanted in _READERS:
        return _READERS[wanted](files, report)
    if wanted in ("classes", "identities"):
        return folders.read(files, report, wanted, guessed=False)
    found = list(_found(files))
    if len(found) > 1:
        told = " and ".join(_NAMES[name] for name in found)
        raise ArchiveRejectedError(
            f"it holds boxes as {told}: name one in `layout` ({', '.join(found)})"
        )
    if found:
        return _READERS[found[0]](files, report)
    _refuse_foreign(files)
    if wanted == "boxes":
        raise ArchiveRejectedError(f"it holds no boxes in a layout that is read: {_READ}")
    _refuse_unlabeled(files)
    return folders.read(files, report, "classes", guessed=True)


def _found(files: Files) -> Iterator[str]:
    """Yield which layouts of boxes an archive has."""
    xml = [path for path in files.paths if path.lower().endswith(".xml")]
    roots = set()
    broken = False
    for path in xml[:_LOOKED_AT]:
        try:
            root = read_xml(files.read(path))
        except ValueError:
            broken = True
            continue
        if root.tag == cvat.ROOT and root.find("track") is not None:
            raise _foreign("CVAT for video", "export it as CVAT for images or as COCO")
        roots.add(root.tag)
    if cvat.ROOT in roots:
        yield "cvat"
    if voc.ROOT in roots or (broken and not roots):
        yield "voc"
    if any(map(coco.is_document, _json(files))):
        if any(coco.is_document(one) and coco.has_boxes(one) for one in _json(files)):
            yield "coco"
        else:
            raise _foreign("COCO without boxes", "export the detection task")
    if yolo.recognize(files):
        yield "yolo"


def _json(files: Files) -> Iterator[Any]:
    for path in coco.paths_of(files)[:_LOOKED_AT]:
        data = files.read(path)
        if len(data) > coco.MOST_JSON_BYTES:
            raise ArchiveRejectedError(f"{path[:100]!r} has more than {coco.MOST_JSON_BYTES} bytes")
        try:
            yield read_json(data)
        except ValueError:
            continue


def _refuse_foreign(files: Files) -> None:
    """Refuse layouts by their names that people have and that are not read."""
    for path in files.paths:
        name = PurePosixPath(path).name.lower()
        for ends, layout in _ENDINGS.items():
            if name.endswith(ends):
                raise _foreign(layout)
        if name.endswith((".csv", ".tsv")):
            _refuse_table(files.read(path)[:4096])
        parts = [folder.lower() for folder in folders_of(path)]
        for folder, layout in _FOLDERS.items():
            if folder in parts:
                raise _foreign(layout)
    for document in _json(files):
        for layout, fits in _DOCUMENTS.items():
            if fits(document):
                raise _foreign(layout)


_ENDINGS = {
    ".tfrecord": "TFRecord",
    ".tfrecords": "TFRecord",
    ".parquet": "Parquet",
    ".arrow": "Arrow",
    "_bbx_gt.txt": "WIDER FACE",
    ".ndjson": "Labelbox NDJSON",
    ".mat": "MATLAB",
}
_FOLDERS = {
    "label_2": "KITTI",
    "segmentationclass": "segmentation masks",
    "segmentationobject": "segmentation masks",
}


def _first(document: Any) -> dict[str, Any]:
    """Return the first entry of a list, if it is an object."""
    entry = document[0] if isinstance(document, list) and document else None
    return entry if isinstance(entry, dict) else {}


_DOCUMENTS: Mapping[str, Callable[[Any], bool]] = {
    "LabelMe": lambda one: isinstance(one, dict) and "shapes" in one and "imagePath" in one,
    "VGG Image Annotator": lambda one: (
        isinstance(one, dict)
        and (
            "_via_img_metadata" in one
            or any(isinstance(value, dict) and "regions" in value for value in one.values())
        )
    ),
    "Datumaro": lambda one: (
        isinstance(one, dict) and "items" in one and isinstance(one.get("categories"), dict)
    ),
    "Supervisely": lambda one: isinstance(one, dict) and "objects" in one and "size" in one,
    "Labelbox": lambda one: "Labeled Data" in _first(one) or "data_row" in _first(one),
    "Label Studio JSON": lambda one: (
        isinstance(_first(one).get("data"), dict)
        and ("annotations" in _first(one) or "completions" in _first(one))
    ),
    "Label Studio JSON-MIN": lambda one: "annotation_id" in _first(one) and "image" in _first(one),
    "CreateML": lambda one: "image" in _first(one) and "annotations" in _first(one),
}


def _refuse_table(head: bytes) -> None:
    first = next(iter(read_text(head).splitlines()), "")
    try:
        cells = first.split("\t") if "\t" in first else next(csv.reader([first]), [])
    except csv.Error:  # it is no table
        return
    columns = {cell.strip().strip('"').lower() for cell in cells}
    if {"annotation_id", "annotator"} <= columns:
        raise _foreign("Label Studio CSV")
    if {"xmin", "ymin", "xmax", "ymax"} <= columns:
        raise _foreign("a table of boxes (CSV)")
    if {"imageid", "labelname"} <= columns:
        raise _foreign("Open Images")
    if "filename" in columns and len(columns) > 2:
        raise _foreign("a table of classes (CSV)")


def _foreign(layout: str, advice: str = f"export it as one of {_READ}") -> ArchiveRejectedError:
    return ArchiveRejectedError(f"its labels are laid out as {layout}, which is not read: {advice}")


def _refuse_unlabeled(files: Files) -> None:
    """Refuse pictures that lie in no folder that could be a class."""
    pictures = [path for path in files.paths if is_picture(path)]
    plain = {
        name
        for path in pictures
        for name in folders_of(path)
        if name.lower() in PLAIN_FOLDERS or split_named(name)
    }
    rest = any(
        name.lower() not in PLAIN_FOLDERS and not split_named(name)
        for path in pictures
        for name in folders_of(path)
    )
    if plain and not rest:
        told = ", ".join(repr(name) for name in sorted(plain)[:5])
        raise ArchiveRejectedError(
            f"its pictures lie in folders called {told}, which are no classes, and no boxes beside "
            f"them are in a layout that is read: {_READ}"
        )
