"""Judges the face finder on test photos: ``python -m research.measure.face_finder``.

Crowds of ``mask_detection/test`` (recall, precision, COCO's AP at an overlap of .5), portraits of
``faces/test`` and pictures without faces. Nothing is chosen by what this prints.
"""

import argparse
import contextlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from research.measure.classifiers import search, size_of
from research.measure.faceless import faceless_pictures
from services.worker.datasets.labeled import read_rgb, read_voc
from services.worker.evaluation.metrics import Rate, wilson
from services.worker.faces.crops import Pixels
from services.worker.faces.detection import FaceDetector
from services.worker.faces.face import Corners, Face

Find = Callable[[Pixels], list[Face]]
LOW = 0.05  # scores from here on count for the area under precision and recall


def average_precision(
    labeled: Sequence[Sequence[Corners]], found: Sequence[Sequence[Face]]
) -> float:
    """Return COCO's AP at an overlap of .5 of the finds in several photos, by pycocotools."""
    truth = COCO()
    truth.dataset = {
        "images": [{"id": number} for number in range(len(labeled))],
        "categories": [{"id": 1, "name": "face"}],
        "annotations": [
            {
                "id": id_,
                "image_id": photo,
                "category_id": 1,
                "bbox": _as_coco(box),
                "area": (box[2] - box[0]) * (box[3] - box[1]),
                "iscrowd": 0,
            }
            for id_, (photo, box) in enumerate(
                ((photo, box) for photo, boxes in enumerate(labeled) for box in boxes), start=1
            )
        ],
    }
    results = [
        {"image_id": photo, "category_id": 1, "bbox": _as_coco(face.box), "score": face.score}
        for photo, faces in enumerate(found)
        for face in faces
    ]
    if not results:
        return 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(results), "bbox")
        judge.params.maxDets = [1, 10, 500]
        judge.params.iouThrs = np.array([0.5])
        judge.evaluate()
        judge.accumulate()
    # Overlaps, recalls, categories, areas (the first: all), numbers of finds (the last: 500).
    precision = judge.eval["precision"][0, :, 0, 0, -1]
    return float(precision.mean())


def _as_coco(box: Corners) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def judge_portraits(root: Path, find: Find) -> tuple[Rate, Rate]:
    """Return the shares of portraits with exactly one find, and with one on the middle."""
    paths = sorted(root.glob("*/*.jpg"))
    one = central = 0
    for path in paths:
        photo = read_rgb(path)
        y, x = (side / 2 for side in photo.shape[:2])
        faces = find(photo)
        one += len(faces) == 1
        central += any(
            face.box[0] < x < face.box[2] and face.box[1] < y < face.box[3] for face in faces
        )
    return wilson(one, len(paths)), wilson(central, len(paths))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="*", choices=("crowds", "portraits", "faceless"))
    arguments = parser.parse_args()
    parts = arguments.only or ("crowds", "portraits", "faceless")
    detector = FaceDetector()
    if "crowds" in parts:
        root = arguments.data / "mask_detection" / "test"
        found = search(root, detector.detect)
        print(f"mask_detection/test: recall {found.recall}, precision {found.precision}")
        groups = {**found.recall_by(lambda face: face.label), **found.recall_by(size_of)}
        for name, rate in groups.items():
            print(f"  recall, {name}: {rate}")
        low = FaceDetector(threshold=LOW)
        paths = sorted((root / "annotations").glob("*.xml"))
        labeled = [[box for _, box in read_voc(path)] for path in paths]
        finds = [
            low.search_all([read_rgb(root / "images" / f"{path.stem}.jpg")], exact=False)[0].faces
            for path in paths
        ]
        print(f"  AP at .5: {average_precision(labeled, finds):.3f}", flush=True)
    if "portraits" in parts:
        one, central = judge_portraits(arguments.data / "faces" / "test", detector.detect)
        print(f"faces/test: one find {one}, a find in the middle {central}", flush=True)
    if "faceless" in parts:
        pictures = faceless_pictures(arguments.data / "mask_templates")
        counts = [(name, len(detector.detect(picture))) for name, picture in pictures]
        print(f"pictures without faces: {len(counts)}, finds {sum(n for _, n in counts)}")
        for name in dict.fromkeys(name for name, _ in counts):
            own = [n for kind, n in counts if kind == name]
            print(f"  {name}: {sum(own)} finds on {len(own)} pictures")


if __name__ == "__main__":
    main()
