"""MTCNN (Zhang et al. 2016), with the weights that facenet-pytorch bundles."""

import threading

import numpy as np
import torch
from facenet_pytorch import MTCNN
from numpy.typing import NDArray
from PIL import Image

from services.worker.faces.crops import Pixels, crop_faces
from services.worker.faces.face import Face

LONGEST_SIDE = 1024
SHORTEST_SIDE = 48
LARGEST_SCALE = 2.0  # small photos are enlarged: their faces are small, too
MIN_FACE = 20
ONET_INPUT = 48
FACES_AT_ONCE = 256
# MTCNN's boxes sit higher than those that people draw: medians over mask_detection/train, in
# widths and heights of the drawn box (x0, y0, x1, y1).
OFFSET = (-0.003, -0.162, -0.070, -0.118)

Boxes = NDArray[np.float32]


class Mtcnn:
    """Three networks: two that find faces, and a last one that also finds five points.

    A photo whose longer side exceeds 1024 pixels is searched on a reduced copy, a smaller one on a
    copy enlarged up to twice. Faces under 20 pixels on the copy searched are not found.
    """

    def __init__(self, *, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._networks = MTCNN(
            keep_all=True, min_face_size=MIN_FACE, post_process=False, device=self._device
        ).eval()
        # Pooling with the channels first takes ten times as long, and as long as all the rest.
        self._networks.onet.to(memory_format=torch.channels_last)
        self._lock = threading.Lock()

    def detect(self, image: Pixels) -> list[Face]:
        """Find the faces in a uint8 RGB photo ``(H, W, 3)``, largest first."""
        height, width = image.shape[:2]
        scale = min(LARGEST_SCALE, LONGEST_SIDE / max(height, width))
        if min(height, width) * scale < SHORTEST_SIDE:
            scale = SHORTEST_SIDE / min(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        if max(size) > 4 * LONGEST_SIDE:
            return []  # a sliver: no face fits its short side
        searched = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        with self._lock, torch.inference_mode():
            boxes, scores, points = self._networks.detect(searched, landmarks=True)
        if boxes is None:
            return []
        stretch = np.array([width / size[0], height / size[1]], dtype=np.float32)
        limits = np.array([width, height] * 2, dtype=np.float32)
        found = [
            Face((x0, y0, x1, y1), float(score), (landmarks * stretch).astype(np.float32))
            for (x0, y0, x1, y1), score, landmarks in zip(
                np.clip(boxes * np.tile(stretch, 2), 0, limits).tolist(),
                scores,
                points,
                strict=True,
            )
            if x1 - x0 >= 1 and y1 - y0 >= 1
        ]
        return sorted(found, key=lambda face: (-face.area, face.box))

    @torch.inference_mode()
    def inspect(self, image: Pixels, boxes: Boxes) -> tuple[NDArray[np.float32], Boxes]:
        """Look at candidates with the last network only.

        Takes drawn boxes ``(N, 4)``; returns five points each, ``(N, 5, 2)`` in pixels, and the
        probability that each is a face ``(N,)``.
        """
        if not len(boxes):
            return np.empty((0, 5, 2), dtype=np.float32), np.empty(0, dtype=np.float32)
        squares = _squares(as_found(boxes))
        crops = crop_faces(
            image, [(a, b, c, d) for a, b, c, d in squares.tolist()], size=ONET_INPUT, margin=0
        )
        answers = [
            self._networks.onet((part.to(self._device) * 255 - 127.5) / 128)
            for part in crops.split(FACES_AT_ONCE)
        ]
        # The network gives five columns, then five rows, as shares of the square.
        points = torch.cat([answer[1] for answer in answers]).cpu()
        shares = points.view(-1, 2, 5).transpose(1, 2).numpy()
        side = (squares[:, 2] - squares[:, 0])[:, None, None]
        scores = torch.cat([answer[2][:, 1] for answer in answers]).cpu().numpy()
        return np.asarray(squares[:, None, :2] + shares * side, dtype=np.float32), scores


def as_drawn(boxes: Boxes) -> Boxes:
    """Move boxes ``(N, 4)`` that MTCNN found to where people would draw them."""
    left, top, right, bottom = OFFSET
    width = (boxes[:, 2] - boxes[:, 0]) / (1 + right - left)
    height = (boxes[:, 3] - boxes[:, 1]) / (1 + bottom - top)
    x0, y0 = boxes[:, 0] - left * width, boxes[:, 1] - top * height
    return np.stack([x0, y0, x0 + width, y0 + height], 1)


def as_found(boxes: Boxes) -> Boxes:
    """Move drawn boxes ``(N, 4)`` to where MTCNN would find them."""
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return np.asarray(boxes + sides * np.array(OFFSET, dtype=np.float32))


def _squares(boxes: Boxes) -> Boxes:
    half = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True) / 2
    middle = (boxes[:, 2:] + boxes[:, :2]) / 2
    return np.concatenate([middle - half, middle + half], 1)
