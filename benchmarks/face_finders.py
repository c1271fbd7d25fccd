"""Face finders on photos held out of ``mask_detection/train``: recall, precision and time.

Peers that are not installed are left out: ``dlib-bin`` (HOG, King 2009), and OpenCV's Haar cascade
(Viola and Jones 2001), which OpenCV 5 no longer has.
"""

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from research.measure.classifiers import match
from research.train.face_examples import hold_out, load_labeled
from research.train.face_finder import HELD_OUT
from services.worker.evaluation.metrics import wilson
from services.worker.faces.crops import Pixels
from services.worker.faces.detection import FaceDetector
from services.worker.faces.face import Face
from services.worker.faces.mtcnn import Mtcnn

DATA = Path("../shared/data/mask_detection/train")
NO_POINTS = np.zeros((5, 2), dtype=np.float32)

Find = Callable[[Pixels], list[Face]]


def haar() -> Find:
    """OpenCV's cascade, on the photo enlarged twice, as the others search it."""
    import cv2

    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")

    def find(image: Pixels) -> list[Face]:
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        gray = cv2.resize(gray, None, fx=2, fy=2)
        boxes = cascade.detectMultiScale(gray, 1.1, 3, minSize=(20, 20))
        return [
            Face((x / 2, y / 2, (x + w) / 2, (y + h) / 2), 1.0, NO_POINTS) for x, y, w, h in boxes
        ]

    return find


def hog() -> Find:
    """dlib's detector, upsampling twice: it knows no faces under 80 pixels."""
    import dlib

    detector = dlib.get_frontal_face_detector()

    def find(image: Pixels) -> list[Face]:
        boxes, scores, _ = detector.run(image, 2, 0.0)
        return [
            Face((b.left(), b.top(), b.right() + 1, b.bottom() + 1), score, NO_POINTS)
            for b, score in zip(boxes, scores, strict=True)
        ]

    return find


def main() -> None:
    """Print one line a finder."""
    torch.set_num_threads(1)
    _, held = hold_out(load_labeled(DATA), HELD_OUT)
    finders: dict[str, Find] = {"this project": FaceDetector().detect, "MTCNN": Mtcnn().detect}
    if find_spec("dlib"):
        finders["dlib HOG"] = hog()
    if find_spec("cv2") and hasattr(__import__("cv2"), "CascadeClassifier"):
        finders["OpenCV Haar"] = haar()
    for name, find in finders.items():
        find(held[0].pixels)
        hits = finds = 0
        seconds = 0.0
        for photo in held:
            start = time.perf_counter()
            found = find(photo.pixels)
            seconds += time.perf_counter() - start
            labeled = [(x0, y0, x1, y1) for x0, y0, x1, y1 in photo.boxes.tolist()]
            hits += sum(face is not None for face in match(labeled, found))
            finds += len(found)
        recall = wilson(hits, sum(len(photo.boxes) for photo in held))
        print(
            f"{name}: recall {recall}, precision {wilson(hits, max(hits, finds))}, "
            f"{1000 * seconds / len(held):.0f} ms a photo",
            flush=True,
        )


if __name__ == "__main__":
    main()
