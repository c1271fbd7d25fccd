"""Finds faces with MTCNN (Zhang et al. 2016), with the weights that facenet-pytorch bundles."""

import threading
from dataclasses import dataclass

import numpy as np
import torch
from facenet_pytorch import MTCNN
from numpy.typing import NDArray
from PIL import Image

from services.worker.faces.crops import Pixels

LONGEST_SIDE = 1024
SHORTEST_SIDE = 48
LARGEST_SCALE = 2.0  # small photos are enlarged: their faces are small, too
# Chosen on ../shared/data/mask_detection/train (docs/models.md): masked faces score low.
THRESHOLDS = (0.6, 0.7, 0.7)
MIN_FACE = 20


@dataclass(frozen=True)
class Face:
    """A face found: box ``(x0, y0, x1, y1)`` in pixels, score in [0, 1], five points ``(5, 2)``.

    The points are the eyes, the nose tip and the corners of the mouth, in pixels.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: NDArray[np.float32]

    @property
    def area(self) -> float:
        """The box's area in square pixels."""
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)


class FaceDetector:
    """Finds all faces of a photo.

    A photo whose longer side exceeds ``longest_side`` pixels is searched on a reduced copy, a
    smaller one on a copy enlarged up to ``LARGEST_SCALE`` times; boxes are in pixels of the photo
    given. Faces smaller than ``min_face`` pixels on the copy searched are not found.
    """

    def __init__(
        self,
        *,
        device: torch.device | str = "cpu",
        thresholds: tuple[float, float, float] = THRESHOLDS,
        min_face: int = MIN_FACE,
        longest_side: int = LONGEST_SIDE,
    ) -> None:
        self._mtcnn = MTCNN(
            keep_all=True,
            min_face_size=min_face,
            thresholds=list(thresholds),
            post_process=False,
            device=torch.device(device),
        ).eval()
        self._longest_side = longest_side
        self._lock = threading.Lock()

    def detect(self, image: Pixels) -> list[Face]:
        """Find the faces in a uint8 RGB photo ``(H, W, 3)``, largest first."""
        height, width = image.shape[:2]
        scale = min(LARGEST_SCALE, self._longest_side / max(height, width))
        if min(height, width) * scale < SHORTEST_SIDE:
            scale = SHORTEST_SIDE / min(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        if max(size) > 4 * self._longest_side:
            return []  # a sliver: no face fits its short side
        searched = image if size == (width, height) else _resized(image, size)
        with self._lock, torch.inference_mode():
            boxes, scores, points = self._mtcnn.detect(searched, landmarks=True)
        if boxes is None:
            return []
        stretch = np.array([width / size[0], height / size[1]], dtype=np.float32)
        found = [
            face
            for box, score, landmarks in zip(boxes, scores, points, strict=True)
            if (face := _face(box, score, landmarks, stretch=stretch, size=(width, height)))
        ]
        return sorted(found, key=lambda face: (-face.area, face.box))


def _resized(image: Pixels, size: tuple[int, int]) -> Pixels:
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def _face(
    box: NDArray[np.float32],
    score: float,
    landmarks: NDArray[np.float32],
    *,
    stretch: NDArray[np.float32],
    size: tuple[int, int],
) -> Face | None:
    """Scale a find back to the photo and keep what lies inside of it."""
    limits = np.array([*size, *size], dtype=np.float32)
    x0, y0, x1, y1 = np.clip(box * np.tile(stretch, 2), 0, limits).tolist()
    if x1 - x0 < 1 or y1 - y0 < 1:
        return None
    return Face((x0, y0, x1, y1), float(score), (landmarks * stretch).astype(np.float32))
