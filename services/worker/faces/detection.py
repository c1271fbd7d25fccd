"""Finds faces, masked ones too: our own network proposes, MTCNN's last network inspects."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from services.worker.faces.crops import Pixels
from services.worker.faces.face import Corners, Face
from services.worker.faces.finder import FINDER, Find, find_in_all
from services.worker.faces.mtcnn import Mtcnn
from services.worker.faces.network import FaceNetwork
from services.worker.models.optimized.frozen import quickened
from services.worker.models.registry import ModelUnavailableError, find_models, read_weights

CANDIDATE = 0.15
# Chosen on photos held out of ../shared/data/mask_detection/train (docs/models.md): at .5, 96 % of
# the finds are faces; at .36, 8 points more recall cost four times as many false finds.
INSPECTION_WEIGHT = 0.2
THRESHOLD = 0.5


class FaceDetector:
    """Finds all faces of a photo, and five points of each.

    A photo whose longer side exceeds 640 pixels is searched on a reduced copy, a smaller one on a
    copy enlarged up to twice; boxes are in pixels of the photo given. Faces under about 8 pixels on
    the copy searched are not found. Scores lie between ``threshold`` and 1.

    Raises ``ModelUnavailableError`` when the bundled weights are missing or were changed.
    """

    def __init__(self, *, device: torch.device | str = "cpu", threshold: float = THRESHOLD) -> None:
        found = find_models().get(FINDER)
        if found is None:
            raise ModelUnavailableError(f"the weights {FINDER} are not installed")
        card, folder = found
        network = FaceNetwork()
        try:
            network.load_state_dict(read_weights(card, folder))
        except RuntimeError as error:
            raise ModelUnavailableError(f"{card.id}: {error}") from error
        self._network = quickened(network.eval()).to(device)
        self._mtcnn = Mtcnn(device=device)
        self._threshold = threshold

    def detect(self, image: Pixels) -> list[Face]:
        """Find the faces in a uint8 RGB photo ``(H, W, 3)``, largest first."""
        return self.detect_all([image])[0]

    def detect_all(self, images: Sequence[Pixels]) -> list[list[Face]]:
        """Find the faces in several photos of any sizes: sooner than in one after the other."""
        finds = find_in_all(self._network, images, threshold=CANDIDATE)
        return [self._inspected(image, found) for image, found in zip(images, finds, strict=True)]

    def _inspected(self, image: Pixels, found: Find) -> list[Face]:
        points, inspected = self._mtcnn.inspect(image, found.boxes)
        faces = [
            Face((x0, y0, x1, y1), score, landmarks)
            for (x0, y0, x1, y1), score, landmarks in zip(
                found.boxes.tolist(), fused(found.scores, inspected).tolist(), points, strict=True
            )
            if score >= self._threshold and x1 - x0 >= 1 and y1 - y0 >= 1
        ]
        return sorted(faces, key=lambda face: (-face.area, face.box))

    def landmarks(self, image: Pixels, box: Corners) -> NDArray[np.float32]:
        """Return the five points of the face that somebody drew a box around, ``(5, 2)``."""
        points, _ = self._mtcnn.inspect(image, np.array([box], dtype=np.float32))
        return np.asarray(points[0], dtype=np.float32)


def fused(proposed: NDArray[np.float32], inspected: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add the evidence of both networks, as logits, and return it as a score in [0, 1]."""
    logits = _logit(proposed) + INSPECTION_WEIGHT * _logit(inspected)
    return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)


def _logit(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.log((scores + 1e-4) / (1 - scores + 1e-4)), dtype=np.float32)
