"""Accuracy across sources: ``python -m research.measure.cross_source --help``.

The models that ship learn from both collections. Here a recipe learns from ``mask_classification``
alone, its epoch chosen on that collection's validation pictures, and is judged twice: on the test
pictures of what it knows, and on the faces of ``mask_detection/test``, of which it has seen nothing
alike. The faces are cut by their labeled boxes, so that no face finder has a part in it; those worn
incorrectly are no class of a binary model and are left out. Nothing is chosen by what this prints.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from research.train.classifiers import (
    BINARY,
    MARGIN,
    RECIPES,
    Recipe,
    config_here,
    start,
)
from services.worker.datasets.labeled import LabeledImages, load_class_folders, load_voc_faces
from services.worker.evaluation.metrics import Report, report
from services.worker.models.base import Classifier
from services.worker.models.registry import BUNDLED
from services.worker.training.loop import predict, train

SOURCE = "mask_classification"
OTHER = "mask_detection"


def judge_source(classifier: Classifier, images: LabeledImages) -> Report:
    """Judge a classifier on labeled images of its classes."""
    probabilities = predict(classifier, images.images).double().softmax(1).numpy()
    return report(probabilities, images.labels.numpy(), list(images.classes))


def across(recipe: Recipe, data: Path, say: Callable[[str], None]) -> dict[str, Report]:
    """Train on one collection; return the reports on its test pictures and on the other's faces."""

    def folder(part: str) -> LabeledImages:
        return load_class_folders(data / SOURCE / part, recipe.classes, size=recipe.size)

    training, validation = folder("train"), folder("val")
    say(f"{recipe.id}: {len(training)} pictures {training.counts}, validation {validation.counts}")
    trained = train(
        start(recipe, BUNDLED),
        training,
        validation,
        config_here(recipe),
        watch=lambda live: say(f"  epoch {live.epoch + 1}") if live.step == 1 else None,
    )
    say(f"  best epoch {trained.best}")
    faces = load_voc_faces(data / OTHER / "test", recipe.classes, size=recipe.size, margin=MARGIN)
    return {
        f"{SOURCE}/test": judge_source(trained.classifier, folder("test")),
        f"{OTHER}/test": judge_source(trained.classifier, faces),
    }


def main() -> None:
    """Run from the command line."""
    recipes = {recipe.id: recipe for recipe in RECIPES if recipe.classes == BINARY}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", nargs="*", choices=recipes, default=list(recipes))
    parser.add_argument("--epochs", type=int, help="default: the recipe's")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    figures = {}
    for name in arguments.models:
        recipe = recipes[name]
        if arguments.epochs:
            recipe = replace(recipe, config=replace(recipe.config, epochs=arguments.epochs))
        found = across(recipe, arguments.data, say)
        for place, judged in found.items():
            print(f"{name}, learned from {SOURCE}/train, on {place}: {judged.accuracy}")
            for label, of in judged.classes.items():
                print(f"  recall, {label}: {of.recall}")
            print(f"  macro F1 {judged.macro_f1:.3f}", flush=True)
        figures[name] = {place: judged.document() for place, judged in found.items()}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
