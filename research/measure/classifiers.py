"""Judges mask classifiers on held-out photos: ``python -m research.measure.classifiers``.

Two figures a model: on whole crops (``mask_classification/test``), and end to end, with the face
finder in front (``mask_detection/test``). Nothing is chosen by what this prints.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from services.worker.datasets.labeled import load_class_folders, read_rgb, read_voc
from services.worker.evaluation.metrics import Rate, Report, report, wilson
from services.worker.faces.boxes import overlap
from services.worker.faces.crops import Pixels, crop_faces
from services.worker.faces.detection import FaceDetector
from services.worker.faces.face import Face
from services.worker.models.registry import LoadedModel, find_models, load_model
from services.worker.training.loop import predict

Corners = tuple[float, float, float, float]
Find = Callable[[Pixels], list[Face]]

OVERLAP = 0.5
# Sides of the labeled box, its longer one, in pixels of the photo.
SIZES = (("under 20 px", 0.0), ("20 to 40 px", 20.0), ("from 40 px", 40.0))
FOLDER_CLASSES = ("with_mask", "without_mask")


@dataclass(frozen=True)
class LabeledFace:
    """A labeled face of a photo, and the find that covers it, if any."""

    photo: str
    label: str
    box: Corners
    found: Face | None


@dataclass(frozen=True)
class Search:
    """What a face finder made of labeled photos."""

    faces: tuple[LabeledFace, ...]
    finds: int

    @property
    def recall(self) -> Rate:
        """Share of the labeled faces that were found."""
        return wilson(sum(face.found is not None for face in self.faces), len(self.faces))

    @property
    def precision(self) -> Rate:
        """Share of the finds that are labeled faces."""
        return wilson(sum(face.found is not None for face in self.faces), self.finds)

    def recall_by(self, name: Callable[[LabeledFace], str]) -> dict[str, Rate]:
        """Return the recall of each group of faces."""
        totals = Counter(name(face) for face in self.faces)
        hits = Counter(name(face) for face in self.faces if face.found is not None)
        return {key: wilson(hits[key], total) for key, total in sorted(totals.items())}


def match(labeled: Sequence[Corners], found: Sequence[Face]) -> list[Face | None]:
    """Return, for each labeled box, the find that covers it at an overlap of at least .5.

    As in Pascal VOC, finds are taken by falling score, and each covers one box at most.
    """
    covered: list[Face | None] = [None] * len(labeled)
    for face in sorted(found, key=lambda face: -face.score):
        free = [i for i in range(len(labeled)) if covered[i] is None]
        best = max(free, key=lambda i: overlap(face.box, labeled[i]), default=None)
        if best is not None and overlap(face.box, labeled[best]) >= OVERLAP:
            covered[best] = face
    return covered


def search(root: Path, find: Find) -> Search:
    """Search the photos of a Pascal VOC folder for faces."""
    faces: list[LabeledFace] = []
    finds = 0
    for path in sorted((root / "annotations").glob("*.xml")):
        found = find(read_rgb(root / "images" / f"{path.stem}.jpg"))
        finds += len(found)
        labeled = read_voc(path)
        covered = match([box for _, box in labeled], found)
        faces += [
            LabeledFace(path.stem, label, box, face)
            for (label, box), face in zip(labeled, covered, strict=True)
        ]
    return Search(tuple(faces), finds)


def size_of(face: LabeledFace) -> str:
    """Name the size of a labeled face."""
    x0, y0, x1, y1 = face.box
    side = max(x1 - x0, y1 - y0)
    return next(name for name, least in reversed(SIZES) if side >= least)


def judge_whole(loaded: LoadedModel, root: Path) -> Report:
    """Judge a model on class folders, each picture whole.

    A three-class model answers "with a mask" where it sees one worn incorrectly.
    """
    data = load_class_folders(root, FOLDER_CLASSES, size=loaded.classifier.input_size[0])
    logits = predict(loaded.classifier, data.images, device=loaded.device)
    probabilities = logits.double().softmax(1).numpy()
    first = list(loaded.card.classes).index("without_mask")
    without = probabilities[:, first]
    return report(np.stack([1 - without, without], 1), data.labels.numpy(), list(FOLDER_CLASSES))


@torch.inference_mode()
def judge_found(loaded: LoadedModel, root: Path, found: Search) -> dict[str, dict[str, int]]:
    """Return, for each true label, how often each label was given to the faces found."""
    table: dict[str, Counter[str]] = {face.label: Counter() for face in found.faces}
    for photo in sorted({face.photo for face in found.faces if face.found}):
        faces = [face for face in found.faces if face.photo == photo and face.found]
        crops = crop_faces(
            read_rgb(root / "images" / f"{photo}.jpg"),
            [face.found.box for face in faces if face.found],
            size=loaded.classifier.input_size[0],
            margin=loaded.card.crop_margin,
        )
        for face, row in zip(faces, loaded.classifier(crops.to(loaded.device)), strict=True):
            table[face.label][loaded.card.classes[int(row.argmax())]] += 1
    return {label: dict(counts) for label, counts in sorted(table.items())}


def judge(model_id: str, data: Path, found: Search, say: Callable[[str], None]) -> dict[str, Any]:
    """Judge one registered model both ways; returns the figures as JSON values."""
    card, folder = find_models()[model_id]
    loaded = load_model(card, folder)
    whole = judge_whole(loaded, data / "mask_classification" / "test")
    say(f"\n## {model_id}\nmask_classification/test, whole pictures: accuracy {whole.accuracy}")
    say(f"  rows true, columns given {FOLDER_CLASSES}: {whole.confusion}")
    say(f"  macro F1 {whole.macro_f1:.4f}, calibration error {whole.calibration_error:.4f}")
    table = judge_found(loaded, data / "mask_detection" / "test", found)
    say("mask_detection/test, faces found by the face finder:")
    for label, counts in table.items():
        total = sum(counts.values())
        right = wilson(counts.get(label, 0), total)
        say(f"  {label}: {right if label in card.classes else f'of {total}'}, given {counts}")
    rate = {label: asdict(wilson(c.get(label, 0), sum(c.values()))) for label, c in table.items()}
    return {"whole": whole.document(), "found": table, "found_accuracy": rate}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", nargs="*", help="ids (default: all that are bundled)")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stdout, flush=True)

    found = search(arguments.data / "mask_detection" / "test", FaceDetector().detect)
    say(f"face finder, mask_detection/test: recall {found.recall}, precision {found.precision}")
    for name, rate in {**found.recall_by(lambda f: f.label), **found.recall_by(size_of)}.items():
        say(f"  recall, {name}: {rate}")
    wanted = arguments.models or sorted(
        card.id for card, _ in find_models().values() if card.task in ("mask", "mask3")
    )
    figures = {name: judge(name, arguments.data, found, say) for name in wanted}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
