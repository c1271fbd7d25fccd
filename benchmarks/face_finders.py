"""Face finders in one run, on one thread: recall and precision on crowds, time by kind of photo.

Crowds are photos held out of ``mask_detection/train``. ``--before`` takes checkouts of earlier
versions of this project, whose finders are compared as they were. Peers that are not installed are
left out: ``dlib-bin`` (HOG, King 2009), and OpenCV's Haar cascade (Viola and Jones 2001), which
OpenCV 5 no longer has.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage import data

from research.measure.classifiers import match
from research.train.face_finder import HELD_OUT
from research.train.face_pictures import FacePhoto, hold_out, load_labeled
from services.worker.evaluation.metrics import wilson
from services.worker.faces.crops import Pixels
from services.worker.faces.detection import FaceDetector
from services.worker.faces.face import Face
from services.worker.faces.mtcnn import Mtcnn

DATA = Path("../shared/data/mask_detection/train")
NO_POINTS = np.zeros((5, 2), dtype=np.float32)
ROUNDS = 5

Find = Callable[[Pixels], list[Face]]
Answer = tuple[list[Face], float]
FindAll = Callable[[Sequence[Pixels]], list[Answer]]

# Runs in an earlier checkout: photos in, boxes, scores and seconds out.
BEFORE = """
import json, sys, time
import numpy as np, torch
from services.worker.faces.detection import FaceDetector
torch.set_num_threads(1)
photos = [np.load(path) for path in sys.argv[1:]]
find, answers = FaceDetector().detect, []
find(photos[0])
for photo in photos:
    start = time.process_time()
    faces = find(photo)
    answers.append([[[*map(float, f.box), float(f.score)] for f in faces],
                    time.process_time() - start])
print(json.dumps(answers))
"""


def one_by_one(find: Find) -> FindAll:
    """Time a finder on photos one after the other, once it is warm; seconds are of the CPU."""

    def find_all(photos: Sequence[Pixels]) -> list[Answer]:
        find(photos[0])
        answers = []
        for photo in photos:
            start = time.process_time()
            faces = find(photo)
            answers.append((faces, time.process_time() - start))
        return answers

    return find_all


def before(checkout: Path) -> FindAll:
    """The finder of an earlier checkout of this project, in a process of its own."""

    def find_all(photos: Sequence[Pixels]) -> list[Answer]:
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{number}.npy" for number in range(len(photos))]
            for path, photo in zip(paths, photos, strict=True):
                np.save(path, photo)
            done = subprocess.run(
                [sys.executable, "-c", BEFORE, *map(str, paths)],
                cwd=checkout,
                check=True,
                capture_output=True,
            )
        return [
            ([Face((a, b, c, d), score, NO_POINTS) for a, b, c, d, score in faces], seconds)
            for faces, seconds in json.loads(done.stdout)
        ]

    return find_all


def haar() -> Find:
    """OpenCV's cascade, on the photo enlarged twice, as the others search it."""
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
    """dlib's detector, upsampling twice: it finds no faces under 80 pixels."""
    import dlib

    detector = dlib.get_frontal_face_detector()

    def find(image: Pixels) -> list[Face]:
        boxes, scores, _ = detector.run(image, 2, 0.0)
        return [
            Face((b.left(), b.top(), b.right() + 1, b.bottom() + 1), score, NO_POINTS)
            for b, score in zip(boxes, scores, strict=True)
        ]

    return find


def boxes_only(detector: FaceDetector) -> Find:
    """What ``classify`` asks for: boxes, without MTCNN's points."""
    return lambda image: detector.search_all([image], exact=False)[0].faces


def kinds(held: Sequence[FacePhoto]) -> dict[str, Pixels]:
    """Return a photo of each kind that the finders are timed on."""
    portrait = data.astronaut()
    crowd = max(held, key=lambda photo: len(photo.boxes)).pixels
    scale = 640 / max(crowd.shape[:2])
    crowd = cv2.resize(crowd, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    cells = cv2.resize(crowd, (1000, 750), interpolation=cv2.INTER_CUBIC)
    return {
        "512 px portrait": portrait,
        "640 px crowd": np.asarray(crowd),
        "2 MP": np.asarray(cv2.resize(crowd, (1632, 1224), interpolation=cv2.INTER_CUBIC)),
        "12 MP": np.tile(np.asarray(cells), (4, 4, 1)),
    }


def main() -> None:
    """Print a line of quality and one of times for each finder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, nargs="*", default=(), help="earlier checkouts")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _, held = hold_out(load_labeled(DATA), HELD_OUT)
    detector = FaceDetector()
    finders = {
        "this project": one_by_one(boxes_only(detector)),
        "this project, with MTCNN's points": one_by_one(detector.detect),
        **{f"before ({path})": before(path) for path in arguments.before},
        "MTCNN": one_by_one(Mtcnn().detect),
    }
    if find_spec("dlib"):
        finders["dlib HOG"] = one_by_one(hog())
    if hasattr(cv2, "CascadeClassifier"):
        finders["OpenCV Haar"] = one_by_one(haar())
    photos = kinds(held)
    for name, find_all in finders.items():
        answers = find_all([photo.pixels for photo in held])
        hits = finds = 0
        for photo, (found, _) in zip(held, answers, strict=True):
            labeled = [(x0, y0, x1, y1) for x0, y0, x1, y1 in photo.boxes.tolist()]
            hits += sum(face is not None for face in match(labeled, found))
            finds += len(found)
        recall = wilson(hits, sum(len(photo.boxes) for photo in held))
        average = sum(seconds for _, seconds in answers) / len(held)
        print(
            f"{name}: recall {recall}, precision {wilson(hits, max(hits, finds))}, "
            f"{1000 * average:.0f} ms a photo",
            flush=True,
        )
        for kind, photo in photos.items():
            timed = find_all([photo] * ROUNDS)
            least = min(seconds for _, seconds in timed)
            print(f"  {kind}: {1000 * least:.0f} ms, {len(timed[0][0])} faces", flush=True)


if __name__ == "__main__":
    main()
