"""Boxes of faces, ``(x0, y0, x1, y1)`` in pixels: how much two overlap, and when they are one."""

import numpy as np
from numpy.typing import NDArray

SAME_FACE = 0.3  # overlap from which a face found again is the same one

Corners = tuple[float, float, float, float]


def overlap(first: Corners, second: Corners) -> float:
    """Return the intersection over union of two boxes, in [0, 1]."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)


def overlaps(boxes: NDArray[np.int64], box: Corners) -> NDArray[np.float64]:
    """Return the intersection over union of boxes ``(N, 4)`` with one, ``(N,)``."""
    left, top, right, bottom = boxes.T
    width = np.clip(np.minimum(right, box[2]) - np.maximum(left, box[0]), 0, None)
    height = np.clip(np.minimum(bottom, box[3]) - np.maximum(top, box[1]), 0, None)
    shared = width * height
    total = (right - left) * (bottom - top) + (box[2] - box[0]) * (box[3] - box[1]) - shared
    return np.asarray(shared / total, dtype=np.float64)
