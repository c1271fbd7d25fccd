"""What it is worth to keep seams out of the face: clean accuracy on faces whose box is known."""

from dataclasses import dataclass
from pathlib import Path

from research.papers.pixels.clean_cost import PAPER
from research.papers.pixels.run import ENERGY, SEED, Workshop, carver
from research.papers.pixels.weights import NotTrainedError
from research.train.classifiers import BINARY, MARGIN
from services.worker.datasets.labeled import load_voc_faces
from services.worker.defenses.carving import SeamCarving
from services.worker.defenses.seam_carving import protect
from services.worker.evaluation.metrics import Rate, wilson
from services.worker.evaluation.paired import McNemar, mcnemar
from services.worker.evaluation.robustness import right
from services.worker.evaluation.setting import Setting

FACES = Path("mask_detection") / "test"


@dataclass(frozen=True)
class Protection:
    """Accuracy resized, carved, and carved around the protected face; the test is of the last two.

    From twice the input, on faces cut with a margin that carving may use up.
    """

    model: str
    resized: Rate
    carved: Rate
    protected: Rate
    test: McNemar


def protections(shop: Workshop) -> list[Protection]:
    """Judge the paper's models; those without weights, or without labeled faces, are left out."""
    if not (shop.data / FACES / "annotations").is_dir():
        return []
    return [found for name in PAPER if (found := _protection(name, shop))]


def _protection(name: str, shop: Workshop) -> Protection | None:
    try:
        classifier = shop.model(name).classifier
    except NotTrainedError:
        return None
    side = classifier.input_size[0]
    faces = load_voc_faces(shop.data / FACES, BINARY, size=2 * side, margin=MARGIN)
    held = [
        right(Setting(classifier, 2 * side, defense), faces.images, faces.labels, seed=SEED)
        for defense in (None, carver(side), around_face(side))
    ]
    resized, carved, protected = (wilson(int(row.sum()), len(row)) for row in held)
    return Protection(name, resized, carved, protected, mcnemar(held[1], held[2]))


def around_face(side: int) -> SeamCarving:
    """Return carving to ``side`` that protects the middle of crops twice as large: the face."""
    whole = 2 * side
    edge = whole * MARGIN / (1 + 2 * MARGIN)
    box = (edge, edge, whole - edge, whole - edge)
    weights = protect(height=whole, width=whole, boxes=[box])
    threads = carver(side).threads
    return SeamCarving(height=side, width=side, energy=ENERGY, weights=weights, threads=threads)
