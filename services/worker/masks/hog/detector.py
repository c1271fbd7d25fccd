"""dlib's frontal face detector (HOG features and linear SVMs, King 2009), with its scores.

It slides five detectors, one a pose, over a pyramid of the picture: windows of 80 pixels, each
level 5/6 of the one before. Of two windows that overlap much the better one stays.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""``(H, W, 3)``, RGB."""
Box = tuple[float, float, float, float]
"""``left, top, right, bottom`` in pixels; right and bottom are the first that lie outside."""

WINDOW = 80  # no face much smaller is found without upsampling
MAX_SIDE = 4096


@dataclass(frozen=True)
class Detections:
    """Faces, the best first: ``boxes`` int64 ``(N, 4)`` as ``Box``, ``scores`` float64 ``(N,)``.

    A score is a distance from the SVM's plane: above 0 dlib calls it a face, good ones reach 2.
    """

    boxes: NDArray[np.int64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scores)


@cache
def _detector() -> Any:
    import dlib  # noqa: PLC0415 - only who detects pays for loading it

    return dlib.get_frontal_face_detector()


def detect(picture: Picture, *, threshold: float = 0.0, upsample: int = 0) -> Detections:
    """Return the faces that dlib finds in an RGB picture, down to a score of ``threshold``.

    ``upsample`` doubles the picture so many times first, for faces under 80 pixels. Lowering the
    threshold adds weaker faces and takes none away. Holds the interpreter's lock while it runs.
    Raises ``ValueError`` for anything but uint8 ``(H, W, 3)``.
    """
    checked(picture)
    boxes, scores, _ = _detector().run(np.ascontiguousarray(picture), upsample, threshold)
    sides = [(b.left(), b.top(), b.right() + 1, b.bottom() + 1) for b in boxes]
    return Detections(
        np.array(sides, dtype=np.int64).reshape(-1, 4), np.array(scores, dtype=np.float64)
    )


def checked(picture: Picture) -> Picture:
    """Return the picture; raises ``ValueError`` for what the detector does not take."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(
            f"a picture is uint8 (H, W, 3), not {picture.dtype} {tuple(picture.shape)}"
        )
    if not 0 < min(picture.shape[:2]) <= max(picture.shape[:2]) <= MAX_SIDE:
        raise ValueError(f"a picture has sides of 1 to {MAX_SIDE} pixels, not {picture.shape[:2]}")
    return picture
