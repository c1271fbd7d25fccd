"""Chooses the face finder's threshold: ``python -m research.measure.finder_threshold``.

Crowds held out of ``mask_detection/train``, and portraits of ``faces/train`` and drawn pictures
that the finder did learn from. No test folder is read.
"""

import argparse
from pathlib import Path

import numpy as np

from research.measure.classifiers import match
from research.measure.face_finder import LOW, average_precision
from research.train.face_finder import HELD_OUT
from research.train.face_pictures import faceless, hold_out, load_labeled
from services.worker.datasets.labeled import read_rgb
from services.worker.evaluation.metrics import wilson
from services.worker.faces.crops import Pixels
from services.worker.faces.detection import FaceDetector
from services.worker.faces.face import Corners, Face

THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
PORTRAITS, EMPTY = 100, 50


def at(threshold: float, found: list[list[Face]]) -> list[list[Face]]:
    """Leave out finds under a threshold."""
    return [[face for face in faces if face.score >= threshold] for faces in found]


def judged(labeled: list[list[Corners]], found: list[list[Face]]) -> tuple[int, int]:
    """Return how many labeled faces were found, and how many finds there are."""
    hits = sum(
        face is not None
        for boxes, faces in zip(labeled, found, strict=True)
        for face in match(boxes, faces)
    )
    return hits, sum(map(len, found))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments = parser.parse_args()
    detector = FaceDetector(threshold=LOW)

    def find(pixels: Pixels) -> list[Face]:
        return detector.search_all([pixels], exact=False)[0].faces

    _, held = hold_out(load_labeled(arguments.data / "mask_detection" / "train"), HELD_OUT)
    labeled = [[(a, b, c, d) for a, b, c, d in photo.boxes.tolist()] for photo in held]
    found = [find(photo.pixels) for photo in held]
    print(f"AP at .5 of {len(held)} held-out photos: {average_precision(labeled, found):.3f}")
    paths = sorted((arguments.data / "faces" / "train").glob("*/*.jpg"))
    portraits = [find(read_rgb(path)) for path in paths[:: len(paths) // PORTRAITS][:PORTRAITS]]
    random = np.random.default_rng(0)
    empty = [find(faceless(int(random.integers(200, 600)), random)) for _ in range(EMPTY)]
    for threshold in THRESHOLDS:
        hits, finds = judged(labeled, at(threshold, found))
        one = sum(len(faces) == 1 for faces in at(threshold, portraits))
        false = sum(map(len, at(threshold, empty)))
        print(
            f"{threshold}: recall {wilson(hits, sum(map(len, labeled)))}, precision "
            f"{wilson(hits, finds)}, one find on {one} of {PORTRAITS} portraits, {false} finds on "
            f"{EMPTY} pictures without faces",
            flush=True,
        )


if __name__ == "__main__":
    main()
