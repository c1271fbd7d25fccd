"""Shapes of face masks in the aligned frame, and where on them a design is printed."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from services.worker.faces.alignment import FRAME

Shape = Literal["surgical", "cloth", "n95"]

# The printed area in the frame of a frontal face, in pixels: left, top, right, bottom.
AREA = (36.0, 84.0, 124.0, 152.0)
SMOOTH = 4  # times as large the outline is drawn, for a soft edge
ROWS = 160

# Half widths at heights, both in pixels of the frame, from the nose bridge to under the chin.
# Drawn here after what such masks cover; not traced from a picture.
_PROFILES: Mapping[str, tuple[tuple[float, float], ...]] = MappingProxyType(
    {
        # A pleated rectangle: its upper edge rises to the nose, its sides are straight.
        "surgical": ((84, 10), (88, 27), (93, 39), (104, 41), (128, 39), (142, 31), (150, 16)),
        # Two sewn halves: a rounded upper edge, drawn in below the chin.
        "cloth": ((84, 8), (89, 22), (97, 36), (110, 40), (126, 36), (140, 26), (151, 10)),
        # A stiff cup: narrower, with a marked nose.
        "n95": ((84, 6), (88, 13), (94, 25), (104, 34), (118, 36), (132, 31), (143, 21), (149, 9)),
    }
)
SHAPES: tuple[Shape, ...] = ("surgical", "cloth", "n95")


@cache
def outline(shape: Shape) -> Tensor:
    """Return a mask's coverage of the frame, ``(1, 1, 160, 160)`` in [0, 1], with a soft edge.

    Raises ``ValueError`` for an unknown shape.
    """
    if shape not in _PROFILES:
        raise ValueError(f"unknown shape {shape!r}: use one of {SHAPES}")
    polygon = [(SMOOTH * x, SMOOTH * y) for x, y in boundary(shape).tolist()]
    drawn = Image.new("L", (SMOOTH * FRAME, SMOOTH * FRAME))
    ImageDraw.Draw(drawn).polygon(polygon, fill=255)
    small = drawn.resize((FRAME, FRAME), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small, dtype=np.float32) / 255)[None, None]


def boundary(shape: Shape) -> NDArray[np.float64]:
    """Return the outline as a closed polygon ``(N, 2)`` in pixels of the frame."""
    heights, halves = np.array(_PROFILES[shape]).T
    rows = np.linspace(heights[0], heights[-1], ROWS)
    widths = PchipInterpolator(heights, halves)(rows)
    middle = (AREA[0] + AREA[2]) / 2
    right = np.stack([middle + widths, rows], 1)
    left = np.stack([middle - widths, rows], 1)
    return np.concatenate([right, left[::-1]])


def plain(color: tuple[float, float, float], size: int = 128) -> Tensor:
    """Return a design of one color, RGB in [0, 1], ``(1, 3, size, size)``."""
    return (
        torch.tensor(color, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, size, size).clone()
    )
