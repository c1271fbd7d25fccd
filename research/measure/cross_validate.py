"""Photo-grouped cross-validation: ``python -m research.measure.cross_validate --help``.

For classes too rare to be judged on one held-out part. The faces of ``mask_detection/train`` are
divided by photo; each fold is judged by a model that saw none of its photos, and the answers of
all folds are counted together. No test folder is read. Where a recipe starts from another model,
that one is trained here first, on ``mask_classification/train`` alone: the one that ships has seen
the faces of every fold.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from research.train.classifiers import (
    BINARY,
    MARGIN,
    RECIPES,
    Recipe,
    config_here,
    keep_fitting,
    start,
    with_classes,
)
from services.worker.datasets.labeled import LabeledImages, join, load_class_folders, load_voc_faces
from services.worker.evaluation.metrics import wilson
from services.worker.models.registry import BUNDLED
from services.worker.training.loop import predict, train

SHIFTS = (0.0, 0.25, 0.5, 0.75, 1.0)


def folds(data: LabeledImages, count: int, *, seed: int) -> list[list[int]]:
    """Divide the photos into ``count`` folds; returns the faces of each."""
    photos = sorted(set(data.groups))
    order = np.random.default_rng(seed).permutation(len(photos))
    fold_of = {photos[photo]: place % count for place, photo in enumerate(order)}
    return [
        [i for i, group in enumerate(data.groups) if fold_of[group] == fold]
        for fold in range(count)
    ]


def shifted(logits: Tensor, labels: Tensor, shift: float) -> Tensor:
    """Return logits of a model trained on balanced classes, moved towards how often each occurs.

    ``shift`` is the exponent of the class frequencies in ``labels`` (logit adjustment, Menon et al.
    2021): 0 leaves all classes equally likely, 1 expects them as often as in ``labels``.
    """
    counts = torch.bincount(labels, minlength=logits.shape[1]).clamp(min=1).float()
    return logits + shift * (counts / counts.sum()).log()


def cross_validate(
    recipe: Recipe, data: Path, count: int, epochs: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Train and judge every fold; returns the confusion for each shift as JSON values."""
    faces = load_voc_faces(
        data / "mask_detection" / "train", recipe.classes, size=recipe.size, margin=MARGIN
    )
    whole = [
        with_classes(
            load_class_folders(data / "mask_classification" / part, BINARY, size=recipe.size),
            recipe.classes,
        )
        for part in ("train", "val")
    ]
    config = replace(config_here(recipe), epochs=epochs)
    weights = _first_weights(recipe, data, say)
    tables = {shift: np.zeros((len(recipe.classes),) * 2, dtype=int) for shift in SHIFTS}
    for number, held in enumerate(folds(faces, count, seed=recipe.config.seed)):
        out = set(held)
        rest = faces.select([i for i in range(len(faces)) if i not in out])
        learned, chosen = rest.split(0.15, seed=7)
        training, validation = join(whole[0], learned), join(whole[1], chosen)
        classifier = start(replace(recipe, start_from=None), BUNDLED)
        if weights is not None:
            keep_fitting(classifier, weights)
        trained = train(classifier, training, validation, config)
        judged = faces.select(held)
        logits = predict(trained.classifier, judged.images)
        for shift, table in tables.items():
            given = shifted(logits, training.labels, shift).argmax(1)
            np.add.at(table, (judged.labels.numpy(), given.numpy()), 1)
        say(f"fold {number + 1} of {count}: {tables[0.0].tolist()}")
    return {str(shift): table.tolist() for shift, table in tables.items()}


def _first_weights(
    recipe: Recipe, data: Path, say: Callable[[str], None]
) -> dict[str, Tensor] | None:
    """Train what the recipe starts from, on pictures of no fold; returns its weights."""
    if recipe.start_from is None:
        return None
    (earlier,) = (other for other in RECIPES if other.id == recipe.start_from)
    training, validation = (
        load_class_folders(data / "mask_classification" / part, earlier.classes, size=earlier.size)
        for part in ("train", "val")
    )
    trained = train(start(earlier, BUNDLED), training, validation, config_here(earlier))
    say(f"{earlier.id}, from {len(training)} pictures of no fold: {trained.best}")
    return trained.classifier.state_dict()


def main() -> None:
    """Run from the command line."""
    recipes = {recipe.id: recipe for recipe in RECIPES}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", choices=recipes, default="mask3-mobilenetv3s-112")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=8, help="of a fold")
    arguments = parser.parse_args()
    recipe = recipes[arguments.model]

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    tables = cross_validate(recipe, arguments.data, arguments.folds, arguments.epochs, say)
    for shift, table in tables.items():
        print(f"shift {shift}: rows true, columns given {recipe.classes}: {table}")
        for name, row, own in zip(recipe.classes, table, range(len(table)), strict=True):
            print(f"  recall, {name}: {wilson(row[own], sum(row))}")
    print(json.dumps(tables))


if __name__ == "__main__":
    main()
