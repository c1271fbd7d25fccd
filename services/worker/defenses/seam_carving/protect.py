"""Weight maps that keep seams out of chosen regions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.worker.defenses.seam_carving.layout import HIGHEST_WEIGHT


def protect(
    *,
    height: int,
    width: int,
    mask: NDArray[np.bool_] | None = None,
    boxes: Sequence[tuple[float, float, float, float]] = (),
    strength: int = HIGHEST_WEIGHT,
) -> NDArray[np.uint16]:
    """Return weights ``(height, width)``: ``strength`` in the mask and the boxes, 0 elsewhere.

    ``mask`` is boolean ``(height, width)``; ``boxes`` are (left, top, right, bottom) in pixels and
    may reach over the border. ``strength`` is in units of the energy, 1 to 32767; the default is
    above every energy, so that a seam goes there only where little else is left.
    Raises ``ValueError`` if nothing would be protected.
    """
    if not 1 <= strength <= HIGHEST_WEIGHT:
        raise ValueError(f"the strength of a protection is 1 to {HIGHEST_WEIGHT}, not {strength}")
    kept = np.zeros((height, width), dtype=np.bool_)
    if mask is not None:
        if mask.shape != kept.shape:
            raise ValueError(f"a mask of shape {mask.shape} does not fit {height}x{width} pixels")
        kept |= mask.astype(np.bool_)
    for left, top, right, bottom in boxes:
        columns = slice(max(round(left), 0), max(round(right), 0))
        rows = slice(max(round(top), 0), max(round(bottom), 0))
        kept[rows, columns] = True
    if not kept.any():
        raise ValueError("the face mask is empty: it marks no pixel to protect")
    return np.where(kept, strength, 0).astype(np.uint16)
