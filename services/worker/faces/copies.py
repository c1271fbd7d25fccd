"""Copies of a photo at several scales, in tiles of bounded size."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from services.worker.faces.crops import Pixels
from services.worker.faces.network import LARGEST

# The smallest face, in pixels of the copy searched, that the network is trusted to find.
FINEST = 10.0
MIN_FACE = 20.0  # pixels of the photo, unless a job asks for smaller or larger ones
# Small photos are enlarged up to twice, as long as their longer side stays within this.
LONGEST_SIDE = 640
LARGEST_SCALE = 2.0
USUAL_PIXELS = 640 * 480
# Each copy is a third as large as the one before: faces of 8 to 72 px on one are 24 to 216 px on
# the next, so that no size falls between two copies.
STEP = 3
SMALLEST_COPY = 24
# A larger copy is searched in tiles. They overlap by twice the largest face that a pass finds well,
# so that each face lies whole in the tile in which its center counts.
TILE = 1024
OVERLAP = 2 * round(LARGEST)
SLACK = 6.0  # pixels over the border of its share that a tile's finds may lie


@dataclass(frozen=True)
class Tile:
    """A part of a photo's copy: uint8 ``(H, W, 3)``.

    ``corner`` ``(x, y)`` is its place on the copy, ``stretch`` ``(x, y)`` the photo's pixels per
    pixel of the copy. A face counts as found here when its center lies in ``share``
    ``(x0, y0, x1, y1)``, in pixels of the copy. ``turn`` is the number of counterclockwise quarter
    turns applied to the copy; all other fields refer to the turned copy. ``places`` is the size of
    the whole copy in photos of 640 x 480 pixels, at least 1.
    """

    photo: int
    pixels: Pixels
    corner: tuple[int, int]
    stretch: tuple[float, float]
    share: tuple[float, float, float, float]
    turn: int
    places: float


def scale_of(height: int, width: int, min_face: float) -> float:
    """Return how large the first copy is: faces of ``min_face`` px have ``FINEST`` px on it."""
    usual = min(LARGEST_SCALE, LONGEST_SIDE / max(height, width))
    return usual if usual > FINEST / min_face else FINEST / min_face


def smallest_face(height: int, width: int, *, min_face: float = MIN_FACE) -> float:
    """Return the longer side, in pixels of the photo, from which on faces are searched."""
    return FINEST / scale_of(height, width, min_face)


def tiles_of(
    image: Pixels, *, photo: int = 0, min_face: float = MIN_FACE, turns: tuple[int, ...] = (0,)
) -> Iterator[Tile]:
    """Yield all tiles of all copies of a uint8 photo ``(H, W, 3)``, finest copy first."""
    height, width = image.shape[:2]
    scale, copy = scale_of(height, width, min_face), image
    while True:
        copy = _resized(copy, max(1, round(width * scale)), max(1, round(height * scale)))
        for turn in turns:
            turned = np.rot90(copy, turn).copy() if turn else copy
            full = (height, width) if turn % 2 == 0 else (width, height)
            stretch = (full[1] / turned.shape[1], full[0] / turned.shape[0])
            yield from _cut(turned, photo, stretch, turn)
        scale /= STEP
        if max(height, width) * scale < SMALLEST_COPY:
            return


def _resized(image: Pixels, width: int, height: int) -> Pixels:
    if image.shape[:2] == (height, width):
        return image
    shrinks = width < image.shape[1] or height < image.shape[0]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=how), dtype=np.uint8)


def _cut(copy: Pixels, photo: int, stretch: tuple[float, float], turn: int) -> Iterator[Tile]:
    height, width = copy.shape[:2]
    places = max(1.0, height * width / USUAL_PIXELS)
    for y0, y1, top, bottom in _spans(height):
        for x0, x1, left, right in _spans(width):
            share = (left, top, right, bottom)
            yield Tile(photo, copy[y0:y1, x0:x1], (x0, y0), stretch, share, turn, places)


def _spans(length: int) -> list[tuple[int, int, float, float]]:
    """Part a side into overlapping spans: start, end, and what of it each is there for."""
    count = max(1, math.ceil((length - OVERLAP) / (TILE - OVERLAP)))
    step = (length - OVERLAP) / count
    spans = []
    for number in range(count):
        start = round(number * step)
        end = length if number == count - 1 else round((number + 1) * step + OVERLAP)
        low = -math.inf if number == 0 else start + OVERLAP / 2
        high = math.inf if number == count - 1 else end - OVERLAP / 2
        spans.append((start, end, low, high))
    return spans
