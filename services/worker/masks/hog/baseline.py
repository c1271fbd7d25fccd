"""What needs no annealing: one face tiled, and masks of one color."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from services.worker.masks.hog.detector import Detections, Picture, checked, detect
from services.worker.masks.hog.drawing import draw_face, face_sprite
from services.worker.masks.hog.objectives import Hide, Rating

# MacDonald (2020): what annealing found with six sprites, and what one face tiled gives, both on
# 766 x 766 pixels.
PUBLISHED_FACES = 4
PUBLISHED_TILING = 42
PUBLISHED_SIDE = 766

COLORS: dict[str, tuple[int, int, int]] = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "gray": (128, 128, 128),
    "blue": (90, 150, 210),
}


@dataclass(frozen=True)
class Tiling:
    """One face side by side: the picture, the face's side in pixels, and what dlib finds.

    ``across`` is the face's width where it was stretched, and else its side.
    """

    picture: Picture
    side: int
    across: int
    detections: Detections


def tile(
    face: Picture, side: int, *, height: int, width: int, across: int | None = None
) -> Picture:
    """Return a face, uint8 ``(h, w, 3)``, sized to ``side`` pixels and repeated.

    ``across`` is its width where that is to be another one.
    """
    across = across or side
    sized = np.asarray(
        Image.fromarray(checked(face)).resize((across, side), Image.Resampling.LANCZOS)
    )
    times = (-(-height // side), -(-width // across), 1)
    return np.ascontiguousarray(np.tile(sized, times)[:height, :width])


def best_tiling(
    face: Picture,
    sides: Iterable[int],
    *,
    height: int = PUBLISHED_SIDE,
    width: int = PUBLISHED_SIDE,
    stretched: Sequence[int] | None = None,
) -> Tiling:
    """Return the tiling with most faces among the sides given; the smallest side of equals.

    With ``stretched`` every side is tried with each of these widths, not as a square.
    """
    best: Tiling | None = None
    for side in sorted(sides):
        for across in sorted(stretched or (side,)):
            if not 8 <= min(side, across) <= max(side, across) <= max(height, width):
                raise ValueError(
                    f"a face of {side} x {across} pixels cannot be tiled on {height} x {width}"
                )
            picture = tile(face, side, height=height, width=width, across=across)
            found = detect(picture)
            if best is None or len(found) > len(best.detections):
                best = Tiling(picture, side, across, found)
    if best is None:
        raise ValueError("no side to tile the face at was given")
    return best


def own_face(kind: Literal["drawn", "strokes"]) -> Picture:
    """Return the drawn face, or the strokes of its HOG, as RGB."""
    gray = draw_face(240) if kind == "drawn" else face_sprite()
    return np.repeat(gray[..., None], 3, axis=2)


def plain_masks(hide: Hide) -> dict[str, Rating]:
    """Rate the wearers with nothing on, and in masks of one color each."""
    ratings = {"bare": hide.rate_bare()}
    for name, color in COLORS.items():
        ratings[name] = hide.rate(np.full((64, 64, 3), color, dtype=np.uint8))
    return ratings
