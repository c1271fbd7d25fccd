"""Where the wearer's pattern sits on a photo: by dlib's box of the face, without landmarks."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from services.worker.masks.hog.detector import Box, Picture

_FINE = 4
ROUND = (0.3, 0.5)  # radius of the lower corners, at most these shares of width and height


class Place(Protocol):
    """Puts a pattern on a photo whose face has a box; returns a new photo of the same size.

    For more than one process it is pickled: a function of an importable module, or an instance.
    """

    def __call__(self, photo: Picture, box: Box, pattern: Picture) -> Picture: ...


@dataclass(frozen=True, kw_only=True)
class LowerFace:
    """Stretch the pattern over the lower part of the box, with round lower corners.

    ``top``, ``bottom`` and ``inset`` are shares of the box's side: the default is a surgical mask's
    place, from the bridge of the nose to under the chin. Raises ``ValueError`` for an empty area.
    """

    top: float = 0.45
    bottom: float = 1.05
    inset: float = 0.02

    def __post_init__(self) -> None:
        if not (-0.5 <= self.top < self.bottom <= 2 and -0.5 <= self.inset < 0.5):
            raise ValueError(f"a mask cannot reach from {self.top} to {self.bottom} of the face")

    def __call__(self, photo: Picture, box: Box, pattern: Picture) -> Picture:
        """Return the photo with the pattern; the box is in pixels and may reach over the edge."""
        left, top, right, bottom = box
        width, height = right - left, bottom - top
        x0, y0 = round(left + self.inset * width), round(top + self.top * height)
        across, down = self.size(width, height)
        size = max(1, round(across)), max(1, round(down))
        worn = Image.fromarray(photo)
        sized = Image.fromarray(pattern).resize(size, Image.Resampling.BILINEAR)
        worn.paste(sized, (x0, y0), _cover(size))
        return np.array(worn)

    def size(self, width: float, height: float) -> tuple[float, float]:
        """Return the mask's width and height on a face of such a box, in the same unit."""
        return (1 - 2 * self.inset) * width, (self.bottom - self.top) * height


def cut_line(width: float, height: float) -> NDArray[np.float64]:
    """Return the outline of a mask of such a size, closed, ``(N, 2)`` from its upper left."""
    radius = _radius(width, height)
    angles = np.linspace(0, np.pi / 2, 24)
    corner = radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    right = corner + np.array([width - radius, height - radius])
    left = corner[::-1] * (-1, 1) + np.array([radius, height - radius])
    return np.concatenate([[(0.0, 0.0), (width, 0.0)], right, left, [(0.0, 0.0)]])


def _radius(width: float, height: float) -> float:
    return min(ROUND[0] * width, ROUND[1] * height)


def _cover(size: tuple[int, int]) -> Image.Image:
    """Draw where the mask covers, with a soft edge."""
    width, height = size[0] * _FINE, size[1] * _FINE
    cover = Image.new("L", (width, height))
    ImageDraw.Draw(cover).rounded_rectangle(
        (0, 0, width - 1, height - 1),
        radius=_radius(width, height),
        fill=255,
        corners=(False, False, True, True),
    )
    return cover.resize(size, Image.Resampling.BOX)
