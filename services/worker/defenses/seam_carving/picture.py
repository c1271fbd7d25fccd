"""Seams as a picture."""

import numpy as np
from numpy.typing import NDArray

VERTICAL = (230, 30, 30)
HORIZONTAL = (30, 80, 230)


def draw_seams(image: NDArray[np.uint8], seams: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return a copy of ``image``, ``(H, W, 3)`` or ``(H, W)``, with its seams in color.

    ``seams`` is one image's map from ``Carved.seams``: vertical seams are drawn in red, horizontal
    ones in blue. Raises ``ValueError`` if the sizes differ.
    """
    if image.shape[:2] != seams.shape:
        raise ValueError(f"seams of shape {seams.shape} were not found on {image.shape}")
    picture = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image.copy()
    picture[seams > 0] = VERTICAL
    picture[seams < 0] = HORIZONTAL
    return picture
