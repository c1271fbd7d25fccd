"""CVAT for images 1.1: one XML file of many photos."""

import math
from xml.etree.ElementTree import Element

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
from services.worker.datasets.texts import read_xml
from shared.dataset_card import Split

NAME = "CVAT for images"
ROOT = "annotations"
_CORNERS = ("xtl", "ytl", "xbr", "ybr")


def read(files: Files, report: Report) -> Reading:
    """Read the photos and boxes of all CVAT documents of an archive."""
    reading = Reading("boxes", NAME)
    pictures = [path for path in files.paths if is_picture(path)]
    index = PhotoIndex(pictures)
    found: dict[str, Annotation] = {}
    subsets: dict[str, Split | None] = {}
    for path in files.paths:
        if not path.lower().endswith(".xml"):
            continue
        reading.own.add(path)
        try:
            root = read_xml(files.read(path))
        except ValueError as error:
            report.file(path, Reason.UNREADABLE_ANNOTATION, str(error))
            continue
        for image in root.iterfind("image"):
            stated = image.get("name") or ""
            subset = image.get("subset") or ""
            beside = f"{subset}/{path}" if split_named(subset) else path
            photos = index.find(stated, beside=beside)
            if len(photos) != 1:
                told = f"{path}: {stated}"[:300]
                report.file(told, Reason.AMBIGUOUS_PHOTO if photos else Reason.NO_PHOTO)
                continue
            subsets[photos[0]] = split_named(subset)
            found[photos[0]] = _annotation(image, path, report)
    check_count(found.values())
    for path in pictures:
        if path not in found:
            reading.own.add(path)
            report.file(path, Reason.NO_ANNOTATION, "no CVAT file names it")
            continue
        split = subsets[path] or split_of(path)
        reading.examples.append(
            Example(path, split, source=source_of(path), annotation=found[path])
        )
    return reading


def _annotation(image: Element, path: str, report: Report) -> Annotation:
    boxes = []
    for shape in image:
        label = (shape.get("label") or "").strip()[:100]
        if shape.tag == "tag":  # of the whole photo
            continue
        corners = _corners(shape)
        if corners is None:
            report.box(path, Reason.NO_BOX, shape.tag[:40])
            continue
        boxes.append(RawBox(label, *corners))
    size = _float(image, "width"), _float(image, "height")
    return Annotation(path, tuple(boxes), size=size)


def _corners(shape: Element) -> tuple[float, float, float, float] | None:
    """Return the upright box around a shape."""
    if shape.tag == "box":
        x0, y0, x1, y1 = (_float(shape, key) for key in _CORNERS)
        turned = math.radians(_float(shape, "rotation", 0.0))
        if turned and math.isfinite(turned):
            across, down = (x1 - x0) / 2, (y1 - y0) / 2
            cosine, sine = abs(math.cos(turned)), abs(math.sin(turned))
            wide, high = across * cosine + down * sine, across * sine + down * cosine
            x, y = (x0 + x1) / 2, (y0 + y1) / 2
            return x - wide, y - high, x + wide, y + high
        return x0, y0, x1, y1
    if shape.tag == "mask":
        left, top = _float(shape, "left"), _float(shape, "top")
        return left, top, left + _float(shape, "width"), top + _float(shape, "height")
    return _around(shape.get("points") or "") if shape.tag == "polygon" else None


def _around(points: str) -> tuple[float, float, float, float] | None:
    """Return the box around the points ``x,y;x,y;…``."""
    try:
        pairs = [[float(value) for value in point.split(",")] for point in points.split(";")]
        across, down = zip(*((x, y) for x, y in pairs), strict=True)
    except ValueError:
        return None
    return min(across), min(down), max(across), max(down)


def _float(element: Element, key: str, default: float = math.nan) -> float:
    try:
        return float(element.get(key, default))
    except ValueError:
        return math.nan
