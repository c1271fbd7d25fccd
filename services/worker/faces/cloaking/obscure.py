"""Hides faces from people, too: averaged to a few cells, smooth or square, or covered.

What is averaged away is gone: the face is first reduced to its cells, and only these are drawn
again, so that no sharpening can bring back what lay between them. A blur alone could be undone.
"""

import math
from typing import Literal

import cv2
import numpy as np

from services.worker.faces.alignment import FRAME, Alignment
from services.worker.faces.crops import Pixels

Mode = Literal["blur", "pixelate", "box"]
# Cells across the face's frame of 160 px, from the weakest strength to the strongest.
CELLS = (10, 8, 6, 4)
BOX = (96, 96, 96)
# Of the frame: what is hidden is an upright ellipse around the face, chin and forehead included.
CENTER, RADII = (80.0, 82.0), (62.0, 76.0)


def obscure(photo: Pixels, alignments: list[Alignment], mode: Mode, cells: int) -> Pixels:
    """Return a uint8 RGB photo ``(H, W, 3)`` with its faces hidden.

    ``cells`` across the frame are kept of each face (fewer: stronger); ``box`` keeps nothing.
    Pixels outside the faces stay as they are. Raises ``ValueError`` for no cells.
    """
    if cells < 1:
        raise ValueError(f"a face keeps at least one cell: {cells}")
    out = photo.copy()
    for alignment in alignments:
        place = _place(alignment, photo)
        if place is None:
            continue
        x0, y0, x1, y1 = place
        covered = _covered(alignment, place)
        if mode == "box":
            out[y0:y1, x0:x1][covered] = BOX
            continue
        # Of what is shown already: where faces overlap, nothing comes back.
        part = out[y0:y1, x0:x1]
        side = FRAME * alignment.scale / cells
        size = (
            max(1, math.ceil((x1 - x0) / side)),
            max(1, math.ceil((y1 - y0) / side)),
        )
        few = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        way = cv2.INTER_CUBIC if mode == "blur" else cv2.INTER_NEAREST
        drawn = np.asarray(cv2.resize(few, (x1 - x0, y1 - y0), interpolation=way), dtype=np.uint8)
        part[covered] = drawn[covered]
    return out


def _place(alignment: Alignment, photo: Pixels) -> tuple[int, int, int, int] | None:
    """Return the pixels that hold the ellipse, ``(x0, y0, x1, y1)``; ``None``: none is inside."""
    height, width = photo.shape[:2]
    turns = np.linspace(0, 2 * math.pi, 64, endpoint=False)
    rim = np.stack([CENTER[0] + RADII[0] * np.cos(turns), CENTER[1] + RADII[1] * np.sin(turns)], 1)
    points = rim @ alignment.to_photo[:, :2].T + alignment.to_photo[:, 2]
    x0, y0 = np.floor(points.min(0)).astype(int) - 1
    x1, y1 = np.ceil(points.max(0)).astype(int) + 2
    box = (max(0, int(x0)), max(0, int(y0)), min(width, int(x1)), min(height, int(y1)))
    return box if box[0] < box[2] and box[1] < box[3] else None


def _covered(
    alignment: Alignment, place: tuple[int, int, int, int]
) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    """Tell which pixels of a place lie in the ellipse."""
    x0, y0, x1, y1 = place
    x, y = np.meshgrid(np.arange(x0, x1), np.arange(y0, y1))
    affine = alignment.to_frame
    u = affine[0, 0] * x + affine[0, 1] * y + affine[0, 2]
    v = affine[1, 0] * x + affine[1, 1] * y + affine[1, 2]
    inside = ((u - CENTER[0]) / RADII[0]) ** 2 + ((v - CENTER[1]) / RADII[1]) ** 2 <= 1
    return np.asarray(inside)
