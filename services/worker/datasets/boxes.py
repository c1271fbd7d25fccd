"""Compares boxes with their photo: turns, scales and clips them, or says what is wrong with one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from services.worker.datasets.report import Change, Reason, storable
from shared.dataset_card import LabeledBox

# A photo as its pixels are stored, or turned upright as its EXIF orientation asks.
Frame = Literal["stored", "upright"]
MOST_BOXES = 2000
# Of a box's area: what may lie over the photo's edge to be clipped.
_MOST_OUTSIDE = 0.5
# Of the ratio of the sides, in which rounding to whole pixels may show.
_SAME_RATIO = 0.02


@dataclass(frozen=True)
class RawBox:
    """A box as annotated: corners in the annotation's own frame, of any order and finiteness."""

    label: str
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True)
class Annotation:
    """What a file says of a photo.

    ``size`` is the width and height of the photo that was annotated, if the file says so: boxes are
    in its pixels; with ``relative`` they are in shares of its sides. ``frame`` is what the format's
    programs take for the photo where sizes do not tell.
    """

    path: str
    boxes: tuple[RawBox, ...]
    size: tuple[float, float] | None = None
    relative: bool = False
    frame: Frame = "upright"


@dataclass(frozen=True)
class Photo:
    """Size of a photo in pixels, upright, and the EXIF orientation (1 to 8) that made it so."""

    width: int
    height: int
    orientation: int

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height of the stored pixels."""
        swapped = self.orientation >= 5
        return (self.height, self.width) if swapped else (self.width, self.height)


@dataclass(frozen=True)
class Fitted:
    """The boxes that can be used, in pixels of the upright photo, and what became of the others."""

    boxes: tuple[LabeledBox, ...]
    left_out: tuple[tuple[Reason, str], ...]
    changes: tuple[Change, ...]  # turned, scaled: of the photo; clipped: of each box


class OtherPhotoError(ValueError):
    """The annotation is of a photo that was turned or cut afterwards."""


def frame_told(annotation: Annotation, photo: Photo) -> Frame | None:
    """Return the frame that was annotated, where the sizes tell; ``None`` otherwise."""
    if photo.orientation == 1:
        return None
    upright, stored = (photo.width, photo.height), photo.stored
    if upright == stored:
        return None
    size = None if annotation.relative else _stated(annotation)
    if size is not None:
        fits = _same_ratio(size, upright), _same_ratio(size, stored)
    elif not annotation.relative and annotation.boxes:
        fits = _hold(annotation.boxes, upright), _hold(annotation.boxes, stored)
    else:
        return None
    if fits[0] == fits[1]:
        return None
    return "upright" if fits[0] else "stored"


def fit(annotation: Annotation, photo: Photo, frame: Frame) -> Fitted:
    """Bring the boxes of a photo to its upright pixels.

    ``frame`` is what was annotated, for photos with an orientation. Boxes are scaled where another
    size is stated, and clipped where up to half of them lies outside. Raises ``OtherPhotoError``
    when the stated size cannot be this photo's.
    """
    turned = frame == "stored" and photo.orientation != 1
    width, height = photo.stored if turned else (photo.width, photo.height)
    x_scale, y_scale = _scales(annotation, (width, height))
    place = _turn(photo.orientation if turned else 1, width, height)
    boxes: list[LabeledBox] = []
    left_out: list[tuple[Reason, str]] = []
    changes: list[Change] = [Change.TURNED] if turned else []
    if (x_scale, y_scale) != (1.0, 1.0) and not annotation.relative:
        changes.append(Change.SCALED)
    for number, raw in enumerate(annotation.boxes):
        if len(boxes) == MOST_BOXES:
            rest = len(annotation.boxes) - number
            left_out += [(Reason.TOO_MANY, f"it has more than {MOST_BOXES} boxes")] * rest
            break
        corners = (raw.x0 * x_scale, raw.y0 * y_scale, raw.x1 * x_scale, raw.y1 * y_scale)
        wrong = _wrong(raw, corners, (width, height))
        if wrong is not None:
            left_out.append(wrong)
            continue
        x0, y0, x1, y1 = _clipped(corners, (width, height))
        if (x0, y0, x1, y1) != corners:
            changes.append(Change.CLIPPED)
        (a, b), (c, d) = place(x0, y0), place(x1, y1)
        boxes.append(
            LabeledBox(
                label=storable(raw.label), x0=min(a, c), y0=min(b, d), x1=max(a, c), y1=max(b, d)
            )
        )
    return Fitted(tuple(boxes), tuple(left_out), tuple(changes))


def _stated(annotation: Annotation) -> tuple[float, float] | None:
    size = annotation.size
    # Some programs write 0 where they did not look.
    return size if size and all(math.isfinite(side) and side > 0 for side in size) else None


def _same_ratio(size: tuple[float, float], other: tuple[float, float]) -> bool:
    return abs(math.log(size[0] / size[1]) - math.log(other[0] / other[1])) < _SAME_RATIO


def _hold(boxes: Sequence[RawBox], size: tuple[float, float]) -> bool:
    """Whether boxes lie within a frame, but for two pixels."""
    return all(
        min(box.x0, box.y0) >= -2 and box.x1 <= size[0] + 2 and box.y1 <= size[1] + 2
        for box in boxes
    )


def _scales(annotation: Annotation, size: tuple[int, int]) -> tuple[float, float]:
    if annotation.relative:
        return size
    stated = _stated(annotation)
    if stated is None or _near(stated, size):
        return 1.0, 1.0
    if not _hold(annotation.boxes, stated) and _hold(annotation.boxes, size):
        return 1.0, 1.0  # the size is wrong, not the boxes
    if _near(stated, size[::-1]):
        raise OtherPhotoError(
            f"it was annotated at {stated[0]:.0f} x {stated[1]:.0f} pixels, and the photo has "
            f"{size[0]} x {size[1]}: it was turned since"
        )
    return size[0] / stated[0], size[1] / stated[1]


def _near(size: tuple[float, float], other: tuple[int, ...]) -> bool:
    return all(abs(a - b) < 1 for a, b in zip(size, other, strict=True))


def _wrong(
    raw: RawBox, corners: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[Reason, str] | None:
    if not all(math.isfinite(value) for value in corners):
        return Reason.NOT_NUMBERS, ""
    if not raw.label:
        return Reason.NO_LABEL, ""
    x0, y0, x1, y1 = corners
    if x1 <= x0 or y1 <= y0:
        return Reason.NO_AREA, ""
    a, b, c, d = _clipped(corners, size)
    # Side by side, since areas of absurd boxes overflow.
    inside = max(0.0, c - a) / (x1 - x0) * (max(0.0, d - b) / (y1 - y0))
    if inside < 1 - _MOST_OUTSIDE:
        told = f"a box lies outside of the photo's {size[0]} x {size[1]} pixels"
        return Reason.OUTSIDE, told
    return None


def _clipped(
    corners: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = corners
    width, height = float(size[0]), float(size[1])
    return max(0.0, x0), max(0.0, y0), min(width, x1), min(height, y1)


def _turn(
    orientation: int, width: int, height: int
) -> Callable[[float, float], tuple[float, float]]:
    """Return what maps points of stored pixels to upright ones (EXIF 2.32, tag 0x0112)."""
    turns: dict[int, Callable[[float, float], tuple[float, float]]] = {
        2: lambda x, y: (width - x, y),
        3: lambda x, y: (width - x, height - y),
        4: lambda x, y: (x, height - y),
        5: lambda x, y: (y, x),
        6: lambda x, y: (height - y, x),
        7: lambda x, y: (height - y, width - x),
        8: lambda x, y: (y, width - x),
    }
    return turns.get(orientation, lambda x, y: (x, y))
