"""YOLO: a text file a photo, as Ultralytics, darknet, CVAT, Roboflow and Label Studio lay it out.

Each line is ``class x y width height`` in shares of the photo's sides, x and y of the middle; or
``class x1 y1 x2 y2 x3 y3 …``, a polygon, of which the bounding box is taken.
"""

import math
import re
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from services.worker.datasets.archives import ArchiveRejectedError, shown
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
from services.worker.datasets.layouts.pairing import PhotoIndex, parts_of, photos_of
from services.worker.datasets.report import Reason, Report
from services.worker.datasets.texts import lines_of, read_json, read_text, read_yaml
from shared.dataset_card import Split

NAME = "YOLO"
_LISTS_OF_NAMES = (
    *("obj.names", "classes.txt", "_darknet.labels", "class_names.txt", "predefined_classes.txt"),
    *("labels.txt", "names.txt", "data.names", "voc.names", "coco.names"),
)
_OTHER_FILES = ("obj.data", "notes.json", "readme.dataset.txt", "readme.roboflow.txt")
_LINES_LOOKED_AT = 20
_MOST_CLASSES = 20_000
_MOST_FOLDERS = 50
_NUMBER = re.compile("[0-9]{1,9}")
# Below this a text is looked at; a photo's boxes never take as much.
MOST_LABEL_BYTES = 4 * 2**20


def is_labels(data: bytes) -> bool:
    """Whether most lines of a text read as YOLO's boxes; an empty text does."""
    if len(data) > MOST_LABEL_BYTES:
        return False
    lines = list(islice(lines_of(data), _LINES_LOOKED_AT))
    return 2 * sum(map(_is_box, lines)) >= len(lines)


def _is_box(line: str) -> bool:
    values = _numbers(line)
    return values is not None and len(values) >= 5 and values[0] >= 0 and values[0].is_integer()


def texts_of(files: Files) -> list[str]:
    """Return the text files that may hold a photo's boxes."""
    return [
        path
        for path in files.paths
        if path.lower().endswith(".txt")
        and PurePosixPath(path).name.lower() not in (*_LISTS_OF_NAMES, *_OTHER_FILES)
    ]


def recognize(files: Files) -> bool:
    """Whether some photo has a text file of its name that reads as boxes, not all of them empty."""
    texts = texts_of(files)
    pairs = photos_of(texts, [path for path in files.paths if is_picture(path)])
    looked_at = (
        list(pairs)[:200]
        or [path for path in texts if "labels" in path.lower().split("/")[:-1]][:200]
    )
    filled = [data for path in looked_at if (data := files.read(path)).strip()]
    good = sum(map(is_labels, filled))
    return good > len(filled) / 2 or (not filled and bool(looked_at) and _has_names(files))


def read(files: Files, report: Report) -> Reading:
    """Read photos and the text files of the same names."""
    reading = Reading("boxes", NAME)
    config, config_path = _config(files)
    names = _names(files, config, reading)
    pictures = [path for path in files.paths if is_picture(path)]
    lists, texts = {}, []
    for path in texts_of(files):
        split = split_named(PurePosixPath(path).stem)
        if split is not None and not is_labels(files.read(path)):
            lists[path] = split
        else:
            texts.append(path)
    splits = _splits(files, config, lists, pictures)
    reading.own |= {*lists, *config_path}
    reading.own |= {p for p in files.paths if PurePosixPath(p).name.lower() in _OTHER_FILES}
    photos = photos_of(texts, pictures)
    is_pose = isinstance(config, dict) and "kpt_shape" in config
    found: dict[str, Annotation] = {}
    for path in texts:
        if path not in photos:
            if "labels" in path.lower().split("/")[:-1] or is_labels(files.read(path)):
                reading.own.add(path)
                report.file(path, Reason.NO_PHOTO)
            continue
        reading.own.add(path)
        found[photos[path]] = _annotation(files.read(path), path, names, is_pose, report)
    check_count(found.values())
    for path in pictures:
        if path not in found:
            reading.own.add(path)
            report.file(path, Reason.NO_ANNOTATION, "there is no text file for it")
            continue
        split = split_of(path) or splits.get(path)
        reading.examples.append(Example(path, split, source=_source(path), annotation=found[path]))
    return reading


def _source(path: str) -> str:
    source = source_of(path)
    return "" if source.lower().startswith("obj_") else source


def _annotation(
    data: bytes, path: str, names: list[str], is_pose: bool, report: Report
) -> Annotation:
    boxes = []
    for line in lines_of(data[:MOST_LABEL_BYTES]):
        values = _numbers(line)
        if values is None or len(values) < 5 or not math.isfinite(values[0]):
            report.box(path, Reason.NOT_NUMBERS, shown(line, 60))
            continue
        number = int(values[0])
        if number != values[0] or not 0 <= number < len(names):
            report.box(path, Reason.UNKNOWN_CLASS, f"class {values[0]:g} of {len(names)}")
            continue
        boxes.append(RawBox(names[number], *_corners(values[1:], is_pose)))
    return Annotation(path, tuple(boxes), relative=True)


def _corners(values: list[float], is_pose: bool) -> tuple[float, float, float, float]:
    # A fifth number is a confidence; an even number of six and more is a polygon.
    if len(values) >= 6 and len(values) % 2 == 0 and not is_pose:
        across, down = values[0::2], values[1::2]
        return min(across), min(down), max(across), max(down)
    x, y, width, height = values[:4]
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _numbers(line: str) -> list[float] | None:
    try:
        return [float(word) for word in line.split()]
    except ValueError:
        return None


def _config(files: Files) -> tuple[Any, list[str]]:
    """Return the outermost YAML document that names classes, and the paths of all such."""
    paths = sorted(
        (path for path in files.paths if path.lower().endswith((".yaml", ".yml"))),
        key=lambda path: path.count("/"),
    )
    chosen: Any = None
    own = []
    for path in paths[:20]:
        try:
            document = read_yaml(files.read(path))
        except ValueError as error:
            if PurePosixPath(path).stem.lower() in ("data", "dataset"):
                raise ArchiveRejectedError(f"{shown(path)} cannot be read: {error}") from error
            continue
        if isinstance(document, dict) and "names" in document:
            own.append(path)
            chosen = chosen if chosen is not None else document
    return chosen, own


def _has_names(files: Files) -> bool:
    lists = (PurePosixPath(path).name.lower() in _LISTS_OF_NAMES for path in files.paths)
    return any(lists) or _config(files)[0] is not None


def _names(files: Files, config: Any, reading: Reading) -> list[str]:
    """Return the classes' names by their numbers; raises ``ArchiveRejectedError``."""
    found = _names_of(config.get("names")) if isinstance(config, dict) else []
    lists: dict[tuple[str, ...], str] = {}
    for path in files.paths:
        name = PurePosixPath(path).name.lower()
        if name in _LISTS_OF_NAMES:
            reading.own.add(path)
            lists.setdefault(tuple(lines_of(files.read(path))), path)
        elif name == "notes.json" and not found:
            reading.own.add(path)
            found = _names_of(_categories(files.read(path)))
    if not found and len(lists) > 1:
        told = " and ".join(shown(path) for path in list(lists.values())[:2])
        raise ArchiveRejectedError(f"{told} list different classes")
    if not found and lists:
        found = list(next(iter(lists)))
    if not found:
        raise ArchiveRejectedError(
            "it is a YOLO data set that does not say what its classes are called: "
            "add `data.yaml` with `names`, or `classes.txt`"
        )
    if len(found) > _MOST_CLASSES:
        raise ArchiveRejectedError(f"there are more than {_MOST_CLASSES} classes")
    return [name.strip()[:100] for name in found]


def _categories(notes: bytes) -> Any:
    """Return the classes of Label Studio's notes, if these are such."""
    try:
        document = read_json(notes)
    except ValueError:
        return None
    return document.get("categories") if isinstance(document, dict) else None


def _names_of(value: Any) -> list[str]:
    """Return names of a list, of a mapping of numbers, or of Label Studio's categories."""
    if isinstance(value, list):
        if all(isinstance(entry, dict) for entry in value):
            value = {str(entry.get("id")): entry.get("name") for entry in value}
        else:
            return [str(name) for name in value]
    if not isinstance(value, dict):
        return []
    numbered = {int(key): str(value[key]) for key in value if _NUMBER.fullmatch(str(key)[:20])}
    most = max(numbered, default=-1)
    if most >= _MOST_CLASSES:
        raise ArchiveRejectedError(f"there are more than {_MOST_CLASSES} classes")
    return [numbered.get(number, "") for number in range(most + 1)]


def _splits(
    files: Files, config: Any, lists: dict[str, Split], pictures: list[str]
) -> dict[str, Split]:
    """Return the split of each photo that a list names, or whose folder the configuration does."""
    lists = dict(lists)
    found: dict[str, Split] = {}
    stated = config if isinstance(config, dict) else {}
    for key in ("train", "val", "valid", "test"):
        split = split_named(key)
        values = stated.get(key)
        for value in values[:_MOST_FOLDERS] if isinstance(values, list) else [values]:
            if not isinstance(value, str) or split is None:
                continue
            wanted = parts_of(value)
            if value.endswith(".txt"):
                lists |= {
                    path: split
                    for path in files.paths
                    if path.split("/")[-len(wanted) :] == wanted and path not in lists
                }
                continue
            for path in pictures if wanted else ():
                if _within(path.split("/")[:-1], wanted):
                    found.setdefault(path, split)
    index = PhotoIndex(pictures)
    for path, split in lists.items():
        for line in read_text(files.read(path)).splitlines():
            photos = index.find(line.strip(), beside="")
            if len(photos) == 1:
                found.setdefault(photos[0], split)
    return found


def _within(folders: list[str], wanted: list[str]) -> bool:
    return any(
        folders[start : start + len(wanted)] == wanted
        for start in range(len(folders) - len(wanted) + 1)
    )
