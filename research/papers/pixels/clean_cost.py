"""What carving costs on pictures that nobody attacked, over the whole test split."""

from dataclasses import dataclass

from research.papers.pixels.rows import CNN, RESNET_ID
from research.papers.pixels.run import SEED, Workshop, carver
from research.papers.pixels.weights import NotTrainedError
from services.worker.evaluation.metrics import Rate, wilson
from services.worker.evaluation.paired import McNemar, mcnemar
from services.worker.evaluation.robustness import right
from services.worker.evaluation.setting import Setting

PAPER = {CNN: ("84.6 %", "73.6 %"), RESNET_ID: ("89.8 %", "87.6 %")}


@dataclass(frozen=True)
class CleanCost:
    """Accuracy with plain resizing and with carving, from twice the input, and their test."""

    model: str
    resized: Rate
    carved: Rate
    test: McNemar


def clean_cost(name: str, shop: Workshop) -> CleanCost | None:
    """Judge a model with and without carving; ``None`` where its weights are not there."""
    try:
        classifier = shop.model(name).classifier
    except NotTrainedError:
        return None
    side = classifier.input_size[0]
    pictures = shop.pictures(2 * side)
    plain, carved = (
        right(Setting(classifier, 2 * side, defense), pictures.images, pictures.labels, seed=SEED)
        for defense in (None, carver(side))
    )
    return CleanCost(
        name,
        wilson(int(plain.sum()), len(plain)),
        wilson(int(carved.sum()), len(carved)),
        mcnemar(plain, carved),
    )
