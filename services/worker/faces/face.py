"""What a face finder returns."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Face:
    """A face found: box ``(x0, y0, x1, y1)`` in pixels, score in [0, 1], five points ``(5, 2)``.

    The points are the eyes, the nose tip and the corners of the mouth, in pixels. ``turn`` counts
    the quarter turns against the clock that set the face upright.
    """

    box: Corners
    score: float
    landmarks: NDArray[np.float32]
    turn: int = 0

    @property
    def area(self) -> float:
        """The box's area in square pixels."""
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)
