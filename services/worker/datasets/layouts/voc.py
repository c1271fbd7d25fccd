"""Pascal VOC: an XML file a photo, as LabelImg, CVAT, Roboflow and Label Studio write it."""

from pathlib import PurePosixPath
from xml.etree.ElementTree import Element

from services.worker.datasets.boxes import Annotation, RawBox
from services.worker.datasets.layouts.base import (
    SPLITS,
    Example,
    Files,
    Reading,
    check_count,
    folders_of,
    is_picture,
    source_of,
    split_of,
)
from services.worker.datasets.layouts.pairing import PhotoIndex, photos_of
from services.worker.datasets.report import Reason, Report
from services.worker.datasets.texts import lines_of, read_xml
from shared.dataset_card import Split

NAME = "Pascal VOC"
ROOT = "annotation"
_KEYS = ("xmin", "ymin", "xmax", "ymax")


def is_annotation(path: str) -> bool:
    """Whether a file of an archive may be a Pascal VOC file."""
    return path.lower().endswith(".xml")


def read(files: Files, report: Report) -> Reading:
    """Read photos and the XML files of the same names."""
    reading = Reading("boxes", NAME)
    pictures = [path for path in files.paths if is_picture(path)]
    xml = [path for path in files.paths if is_annotation(path)]
    photos = photos_of(xml, pictures)
    listed = _listed_splits(files, reading)
    found: dict[str, Annotation] = {}
    index = PhotoIndex(set(pictures) - set(photos.values()))
    for path in xml:
        reading.own.add(path)
        try:
            root = read_xml(files.read(path))
        except ValueError as error:
            report.file(path, Reason.UNREADABLE_ANNOTATION, str(error))
            if path in photos:
                reading.own.add(photos[path])
            continue
        if path not in photos:
            stated = index.find(root.findtext("filename") or "", beside=path)
            if len(stated) != 1 or stated[0] in found:
                report.file(path, Reason.AMBIGUOUS_PHOTO if stated else Reason.NO_PHOTO)
                continue
            photos[path] = stated[0]
        found[photos[path]] = annotation_of(root, path, report)
    check_count(found.values())
    for path in pictures:
        if path in reading.own:
            continue
        if path not in found:
            reading.own.add(path)
            report.file(path, Reason.NO_ANNOTATION, "there is no XML file for it")
            continue
        split = split_of(path) or listed.get(PurePosixPath(path).stem)
        reading.examples.append(
            Example(path, split, source=source_of(path), annotation=found[path])
        )
    return reading


def annotation_of(root: Element, path: str, report: Report) -> Annotation:
    """Return what a Pascal VOC document says; objects without a box are counted, not fatal."""
    boxes = []
    for entry in root.iter("object"):
        corners = entry.find("bndbox")
        if corners is None:
            report.box(path, Reason.NO_BOX)
            continue
        try:
            x0, y0, x1, y1 = (float(corners.findtext(key) or "nan") for key in _KEYS)
        except ValueError:
            report.box(path, Reason.NOT_NUMBERS)
            continue
        label = (entry.findtext("name") or "").strip()[:100]
        boxes.append(RawBox(label, x0, y0, x1, y1))
    # Programs that write this format read pixels as they are stored.
    return Annotation(path, tuple(boxes), size=_size(root), frame="stored")


def _size(root: Element) -> tuple[float, float] | None:
    try:
        width, height = (float(root.findtext(f"size/{key}") or "") for key in ("width", "height"))
    except ValueError:
        return None
    return width, height


def _listed_splits(files: Files, reading: Reading) -> dict[str, Split]:
    """Return the split of each photo's name that ``ImageSets/Main/<split>.txt`` lists."""
    found: dict[str, Split] = {}
    for path in files.paths:
        name = PurePosixPath(path)
        if "imagesets" in (folder.lower() for folder in folders_of(path)):
            reading.own.add(path)
            split = SPLITS.get(name.stem.lower())
            if split is not None and name.suffix.lower() == ".txt":
                for line in lines_of(files.read(path)):
                    found.setdefault(line.split()[0], split)
        elif name.name.lower() in ("labelmap.txt", "readme.dataset.txt", "readme.roboflow.txt"):
            reading.own.add(path)
    return found
