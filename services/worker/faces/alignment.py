"""Aligns faces: five points to fixed places in a square frame, by a similarity.

The inner 112x112 pixels of the frame are the crop that recognizers of the ArcFace family take
(Deng et al. 2019); the margin around it shows hair, ears and chin to those that want more.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from services.worker.faces.crops import Pixels

INNER = 112
MARGIN = 24
FRAME = INNER + 2 * MARGIN
# Where eyes, nose tip and corners of the mouth lie in the 112x112 crop, in pixels.
INNER_POINTS = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ],
    dtype=np.float64,
)
FRAME_POINTS = INNER_POINTS + MARGIN

Affine = NDArray[np.float64]
"""``(2, 3)``: maps ``(x, y, 1)`` to ``(x, y)``."""


def similarity(source: NDArray[np.floating], target: NDArray[np.floating]) -> Affine:
    """Return the rotation, scale and shift that bring points ``(N, 2)`` closest to others.

    Least squares, without reflection, ``(2, 3)``. With points as complex numbers the answer is one
    factor and one shift (the plane's case of Umeyama 1991). Raises ``ValueError`` when the source
    points coincide.
    """
    z, w = source @ (1, 1j), target @ (1, 1j)
    z0, w0 = z.mean(), w.mean()
    spread = (np.abs(z - z0) ** 2).sum()
    if spread < 1e-9:
        raise ValueError("the points coincide")
    factor = (np.conj(z - z0) * (w - w0)).sum() / spread
    shift = w0 - factor * z0
    return np.array(
        [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    )


def inverse(affine: Affine) -> Affine:
    """Return the map back."""
    linear = np.linalg.inv(affine[:, :2])
    return np.concatenate([linear, -linear @ affine[:, 2:]], 1)


@dataclass(frozen=True)
class Alignment:
    """Where a face's frame lies in its photo.

    ``to_frame`` maps pixel coordinates of the photo to those of the frame, ``(2, 3)``.
    """

    to_frame: Affine

    @property
    def to_photo(self) -> Affine:
        """Maps pixel coordinates of the frame to those of the photo."""
        return inverse(self.to_frame)

    @property
    def scale(self) -> float:
        """Photo pixels a frame pixel: over 1 for faces larger than the frame."""
        return float(1 / np.hypot(self.to_frame[0, 0], self.to_frame[1, 0]))

    def corners(self, margin: float = 0.0) -> NDArray[np.float64]:
        """Return the frame's corners in pixels of the photo, ``(4, 2)``; within a margin of it."""
        low, high = margin - 0.5, FRAME - margin - 0.5
        frame = np.array([[low, low], [high, low], [high, high], [low, high]])
        return np.asarray(frame @ self.to_photo[:, :2].T + self.to_photo[:, 2])


def align(landmarks: NDArray[np.floating]) -> Alignment:
    """Return the alignment of a face by its five points ``(5, 2)`` in pixels of the photo."""
    return Alignment(similarity(np.asarray(landmarks, dtype=np.float64), FRAME_POINTS))


def cut_frame(image: Pixels, alignment: Alignment) -> Pixels:
    """Cut the aligned frame ``(160, 160, 3)`` out of a uint8 RGB photo ``(H, W, 3)``.

    Large faces are reduced by area first, so that nothing aliases; where the frame leaves the
    photo, the edge is repeated.
    """
    affine = alignment.to_frame
    patch, (x0, y0), reduction = reduced_patch(image, alignment)
    # A pixel's center is at its index: a reduction by r moves centers by (r - 1) / 2.
    shift = (reduction - 1) / 2
    linear = affine[:, :2] * reduction
    offset = affine[:, :2] @ np.array([x0 + shift, y0 + shift]) + affine[:, 2]
    return np.asarray(
        cv2.warpAffine(
            patch,
            np.concatenate([linear, offset[:, None]], 1),
            (FRAME, FRAME),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        dtype=np.uint8,
    )


def reduced_patch(image: Pixels, alignment: Alignment) -> tuple[Pixels, tuple[int, int], int]:
    """Return the part of a photo around a frame, its corner ``(x, y)`` and its reduction.

    The reduction is a whole number: that many pixels of the photo a side become one of the patch,
    which then has between one and two pixels a pixel of the frame (fewer if the photo has fewer).
    """
    height, width = image.shape[:2]
    reduction = max(1, int(alignment.scale))
    corners = alignment.corners()
    low = np.floor(corners.min(0)).astype(int) - 2 * reduction
    high = np.ceil(corners.max(0)).astype(int) + 2 * reduction
    x0, y0 = int(np.clip(low[0], 0, width - 1)), int(np.clip(low[1], 0, height - 1))
    x1, y1 = int(np.clip(high[0], x0 + 1, width)), int(np.clip(high[1], y0 + 1, height))
    if reduction > 1:
        x1 = x0 + max(1, (x1 - x0) // reduction) * reduction
        y1 = y0 + max(1, (y1 - y0) // reduction) * reduction
    patch = image[y0 : min(y1, height), x0 : min(x1, width)]
    if reduction > 1:
        size = (max(1, (x1 - x0) // reduction), max(1, (y1 - y0) // reduction))
        patch = np.asarray(cv2.resize(patch, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return patch, (x0, y0), reduction
