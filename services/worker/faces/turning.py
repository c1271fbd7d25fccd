"""Places in a photo that was turned by quarters, there and back."""

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.float32]


def turned(points: Places, turn: int, width: int, height: int) -> Places:
    """Return where points ``(..., 2)`` of a photo lie after ``turn`` quarter turns (``np.rot90``).

    ``width`` and ``height`` are those of the photo as it was.
    """
    x, y = points[..., 0], points[..., 1]
    there = ((x, y), (y, width - x), (width - x, height - y), (height - y, x))[turn % 4]
    return np.stack(there, -1).astype(np.float32)


def turned_back(points: Places, turn: int, width: int, height: int) -> Places:
    """Return where points ``(..., 2)`` of a turned photo lie in the photo as it was."""
    if turn % 2:
        width, height = height, width
    return turned(points, -turn, width, height)


def corners_of(boxes: Places) -> Places:
    """Return boxes ``(N, 4)`` whose corners may have changed places as ``(x0, y0, x1, y1)``."""
    pairs = boxes.reshape(-1, 2, 2)
    return np.concatenate([pairs.min(1), pairs.max(1)], 1)
