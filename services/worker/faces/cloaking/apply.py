"""Puts cloaks into a photo: only the change is warped back, never the face."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from services.worker.faces.alignment import Affine, Alignment
from services.worker.faces.crops import Pixels

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Applied:
    """A cloaked photo, uint8 ``(H, W, 3)``, and the boxes ``(x0, y0, x1, y1)`` changed."""

    photo: Pixels
    regions: tuple[Box, ...]


def region_of(alignment: Alignment, height: int, width: int, *, margin: float = 0.0) -> Box:
    """Return the pixels of a photo that a frame may reach, ``(x0, y0, x1, y1)``.

    ``margin`` leaves out that many pixels of the frame on each side.
    """
    corners = alignment.corners(margin)
    x0, y0 = np.floor(corners.min(0)).astype(int)
    x1, y1 = np.ceil(corners.max(0)).astype(int) + 1
    return (
        int(np.clip(x0, 0, width)),
        int(np.clip(y0, 0, height)),
        int(np.clip(x1, 0, width)),
        int(np.clip(y1, 0, height)),
    )


def apply_cloaks(
    photo: Pixels, alignments: list[Alignment], changes: list[Tensor], *, eps: float
) -> Applied:
    """Add changes ``(3, 160, 160)``, in 1/255, to a uint8 RGB photo ``(H, W, 3)``.

    Each is resampled from its frame to the photo's own pixels, added, cut to ``eps`` (in whole
    steps of the 8-bit grid) and rounded. Where frames overlap the changes add up, and are cut.
    Pixels outside the frames are not touched.
    """
    height, width = photo.shape[:2]
    bound = float(np.floor(eps + 1e-9))
    out = photo.copy()
    regions = [region_of(alignment, height, width) for alignment in alignments]
    residuals = [
        _warped(change, alignment.to_photo, box)
        for alignment, change, box in zip(alignments, changes, regions, strict=True)
    ]
    for number, (x0, y0, x1, y1) in enumerate(regions):
        whole = _with_neighbors(number, regions, residuals)
        part = photo[y0:y1, x0:x1].astype(np.float32)
        steps = np.rint(np.clip(whole, -bound, bound))
        out[y0:y1, x0:x1] = np.clip(part + steps, 0, 255).astype(np.uint8)
    return Applied(out, tuple(regions))


def _with_neighbors(
    number: int, regions: list[Box], residuals: list[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return the sum of all changes within one region: overlapping faces share pixels."""
    x0, y0, x1, y1 = regions[number]
    whole = residuals[number].copy()
    for other, (a0, b0, a1, b1) in enumerate(regions):
        left, top, right, bottom = max(x0, a0), max(y0, b0), min(x1, a1), min(y1, b1)
        if other != number and left < right and top < bottom:
            part = residuals[other][top - b0 : bottom - b0, left - a0 : right - a0]
            whole[top - y0 : bottom - y0, left - x0 : right - x0] += part
    return whole


def _warped(change: Tensor, to_photo: Affine, box: Box) -> NDArray[np.float32]:
    x0, y0, x1, y1 = box
    if x0 >= x1 or y0 >= y1:
        return np.zeros((max(0, y1 - y0), max(0, x1 - x0), 3), dtype=np.float32)
    affine = to_photo.copy()
    affine[:, 2] -= (x0, y0)
    frame = np.ascontiguousarray(change.permute(1, 2, 0).numpy(), dtype=np.float32)
    return np.asarray(
        cv2.warpAffine(
            frame,
            affine,
            (x1 - x0, y1 - y0),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=0,
        ),
        dtype=np.float32,
    )
