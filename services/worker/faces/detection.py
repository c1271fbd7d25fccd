"""Finds faces, masked ones too, and five points of each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from services.worker.faces.copies import MIN_FACE, smallest_face
from services.worker.faces.crops import Pixels
from services.worker.faces.face import Corners, Face
from services.worker.faces.finder import FINDER, TURNED, UPRIGHT, Find, find_in_all
from services.worker.faces.mtcnn import Mtcnn
from services.worker.faces.network import FaceNetwork
from services.worker.faces.turning import corners_of, turned, turned_back
from services.worker.models.optimized.frozen import quickened
from services.worker.models.registry import ModelUnavailableError, find_models, read_weights

# Chosen on photos held out of ../shared/data/mask_detection/train (docs/models.md).
THRESHOLD = 0.6
# Finds between these scores are not sure: MTCNN's last network is asked, too.
CANDIDATE, SURE = 0.25, 0.8
INSPECTION_WEIGHT = 0.15
# Where nobody stands upright, three more searches have three more chances to err.
TURNED_THRESHOLD = 0.7

Turns = Literal["none", "if none", "all"]
"""Whether photos are searched turned, too: never, where no face is found upright, or always."""


@dataclass(frozen=True)
class Searched:
    """Which faces a search could find.

    ``smallest`` is the longer side of a face, in pixels of the photo; there is no largest.
    ``turns`` are the counterclockwise quarter turns at which the photo was searched; ``0``: as is.
    """

    smallest: float
    turns: tuple[int, ...]


@dataclass(frozen=True)
class Detection:
    """The faces of a photo, largest first, and what was searched."""

    faces: list[Face]
    searched: Searched


class FaceDetector:
    """Finds all faces of a photo, and five points of each.

    Boxes are in pixels of the photo given. Scores lie between ``threshold`` and 1.

    Raises ``ModelUnavailableError`` when the bundled weights are missing or were changed.
    """

    def __init__(self, *, device: torch.device | str = "cpu", threshold: float = THRESHOLD) -> None:
        self._network = load_finder().to(device)
        self._mtcnn = Mtcnn(device=device)
        self._threshold = threshold

    def detect(self, image: Pixels) -> list[Face]:
        """Find the faces in a uint8 RGB photo ``(H, W, 3)``, largest first."""
        return self.search(image).faces

    def search(
        self, image: Pixels, *, min_face: float = MIN_FACE, turns: Turns = "if none"
    ) -> Detection:
        """Find the faces in a uint8 RGB photo ``(H, W, 3)`` as ``search_all`` does."""
        return self.search_all([image], min_face=min_face, turns=turns)[0]

    def search_all(
        self,
        images: Sequence[Pixels],
        *,
        min_face: float = MIN_FACE,
        turns: Turns = "if none",
        exact: bool = True,
    ) -> list[Detection]:
        """Find the faces in several photos of any sizes: sooner than in one after the other.

        Faces from ``min_face`` pixels on (their longer side) are searched, whatever the photo's
        size. ``turns`` tells whether photos are searched turned by quarters, too. With ``exact``,
        MTCNN's last network places the points; without it, they are the finder's own.
        """
        made = self._searched(images, min_face, UPRIGHT + TURNED if turns == "all" else UPRIGHT)
        empty = [i for i, found in enumerate(made) if turns == "if none" and not found.faces]
        again = self._searched([images[i] for i in empty], min_face, TURNED)
        for i, found in zip(empty, again, strict=True):
            searched = Searched(found.searched.smallest, UPRIGHT + TURNED)
            made[i] = Detection(found.faces, searched)
        return [self._exact(*both) for both in zip(images, made, strict=True)] if exact else made

    def _searched(
        self, images: Sequence[Pixels], min_face: float, turns: tuple[int, ...]
    ) -> list[Detection]:
        least = {turn: max(self._threshold, TURNED_THRESHOLD) for turn in turns}
        least[0] = self._threshold
        finds = find_in_all(
            self._network,
            images,
            threshold=min(self._threshold, CANDIDATE),
            min_face=min_face,
            turns=turns,
        )
        return [
            Detection(
                [face for face in self._weighed(image, found) if face.score >= least[face.turn]],
                Searched(smallest_face(*image.shape[:2], min_face=min_face), turns),
            )
            for image, found in zip(images, finds, strict=True)
        ]

    def _weighed(self, image: Pixels, found: Find) -> list[Face]:
        """Let MTCNN's last network look at the faces that ours is not sure of."""
        scores = found.scores.copy()
        unsure = scores < SURE
        _, inspected = self._inspect(image, found.boxes[unsure], found.turns[unsure])
        scores[unsure] = fused(scores[unsure], inspected)
        rows = zip(
            found.boxes.tolist(), scores.tolist(), found.points, found.turns.tolist(), strict=True
        )
        faces = [
            Face((x0, y0, x1, y1), score, points, turn)
            for (x0, y0, x1, y1), score, points, turn in rows
            if x1 - x0 >= 1 and y1 - y0 >= 1
        ]
        return sorted(faces, key=lambda face: (-face.area, face.box))

    def _exact(self, image: Pixels, found: Detection) -> Detection:
        """Let MTCNN's last network place the points of all faces."""
        boxes = np.array([face.box for face in found.faces], dtype=np.float32).reshape(-1, 4)
        turns = np.array([face.turn for face in found.faces], dtype=np.int64)
        points, _ = self._inspect(image, boxes, turns)
        faces = [
            replace(face, landmarks=own) for face, own in zip(found.faces, points, strict=True)
        ]
        return replace(found, faces=faces)

    def _inspect(
        self, image: Pixels, boxes: NDArray[np.float32], turns: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what MTCNN's last network makes of faces that ``turns`` quarter turns set upright.

        Points ``(N, 5, 2)`` in pixels of the photo as it is, and scores ``(N,)``.
        """
        height, width = image.shape[:2]
        points = np.empty((len(boxes), 5, 2), dtype=np.float32)
        scores = np.empty(len(boxes), dtype=np.float32)
        for turn in np.unique(turns).tolist():
            here = turns == turn
            corners = corners_of(turned(boxes[here].reshape(-1, 2, 2), turn, width, height))
            upright = np.rot90(image, turn).copy() if turn else image
            own, scores[here] = self._mtcnn.inspect(upright, corners)
            points[here] = turned_back(own, turn, width, height)
        return points, scores

    def landmarks(self, image: Pixels, box: Corners) -> NDArray[np.float32]:
        """Return the five points of the face that somebody drew a box around, ``(5, 2)``."""
        points, _ = self._mtcnn.inspect(image, np.array([box], dtype=np.float32))
        return np.asarray(points[0], dtype=np.float32)


def load_finder() -> FaceNetwork:
    """Load the bundled face network, frozen; raises ``ModelUnavailableError``."""
    found = find_models().get(FINDER)
    if found is None:
        raise ModelUnavailableError(f"the weights {FINDER} are not installed")
    card, folder = found
    network = FaceNetwork()
    try:
        network.load_state_dict(read_weights(card, folder))
    except RuntimeError as error:
        raise ModelUnavailableError(f"{card.id}: {error}") from error
    return quickened(network.eval())


def fused(proposed: NDArray[np.float32], inspected: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add the evidence of both networks, as logits, and return it as a score in [0, 1]."""
    logits = _logit(proposed) + INSPECTION_WEIGHT * _logit(inspected)
    return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)


def _logit(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.log((scores + 1e-4) / (1 - scores + 1e-4)), dtype=np.float32)
