"""Calibrates the squeezing detector for the models that ship.

    python -m research.train.detector_threshold --data ../shared/data
    python -m research.train.detector_threshold --data ../shared/data --judge

The first command sets a threshold for each model on its validation images: clean ones of the
training folders that its weights were not fitted to, since a model is surer of those it was. It
writes them where ``services.worker.defenses.thresholds`` reads them. The second changes nothing: it
prints how often clean and attacked pictures of ``mask_classification/test`` are called suspicious.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from research.train.classifiers import BINARY, RECIPES, Recipe, load_data, with_classes
from services.worker.attacks.base import Attack
from services.worker.attacks.de import DifferentialEvolution
from services.worker.attacks.fgsm import FGSM
from services.worker.attacks.pgd import PGD
from services.worker.datasets.labeled import LabeledImages, load_class_folders
from services.worker.defenses.squeezing import SqueezingDetector
from services.worker.defenses.thresholds import (
    THRESHOLDS,
    KnownThreshold,
    known_threshold,
    write_thresholds,
)
from services.worker.evaluation.detection import judge_detector
from services.worker.evaluation.outcomes import adversarial
from services.worker.evaluation.robustness import attack_images, sample
from services.worker.evaluation.setting import Setting
from services.worker.models.predict import as_input
from services.worker.models.registry import LoadedModel, find_models, load_model

FALSE_POSITIVE_RATE = 0.05
DATA = (
    "mask_classification/val, and faces of the 15 % of the photos of mask_detection/train that "
    "were held out of training"
)
JUDGED = 100


def calibrate(
    loaded: LoadedModel, clean: LabeledImages, *, data: str, target: float = FALSE_POSITIVE_RATE
) -> KnownThreshold:
    """Return the lowest threshold with at most ``target`` false alarms on the clean images."""
    detector = SqueezingDetector(loaded.classifier)
    images = as_input(clean.images.to(loaded.device))
    found = detector.calibrate(images, false_positive_rate=target)
    return KnownThreshold(
        model=loaded.card.id,
        sha256=loaded.card.sha256,
        threshold=found.threshold,
        target=target,
        alarms=round(found.false_positive_rate * found.images),
        images=found.images,
        data=data,
        fingerprint=clean.fingerprint,
    )


def judge(loaded: LoadedModel, recipe: Recipe, data: Path, say: Callable[[str], None]) -> None:
    """Print how the detector does on test pictures, clean and attacked."""
    known = known_threshold(loaded.card.sha256)
    if known is None:
        say(f"{recipe.id}: not calibrated")
        return
    folders = load_class_folders(data / "mask_classification" / "test", BINARY, size=recipe.size)
    test = with_classes(folders, recipe.classes)
    detector = SqueezingDetector(loaded.classifier)
    clean = detector.score(as_input(test.images)).double().numpy()
    chosen = sample(len(test), JUDGED, seed=0)
    attacks: tuple[Attack, ...] = (FGSM(eps=4), PGD(eps=1), PGD(eps=4), PGD(eps=16))
    if recipe.size <= 32:
        attacks = (*attacks, DifferentialEvolution(pixels=5, population=40, generations=20))
    for attack in attacks:
        part = test.select(chosen)
        batch = attack_images(
            Setting(loaded.classifier, recipe.size),
            attack,
            part.images,
            part.labels,
            indices=chosen,
            seed=0,
        )
        judged = judge_detector(
            clean,
            detector.score(as_input(adversarial(batch))).double().numpy(),
            right=np.array([result.counted for result in batch.results]),
            fooled=np.array([result.counted and result.success for result in batch.results]),
            threshold=known.threshold,
            clean_groups=test.groups,
            attacked_groups=part.groups,
        )
        eps = f", eps {batch.parameters['eps']:g}" if "eps" in batch.parameters else ""
        say(
            f"{recipe.id}, {attack.name}{eps}: false alarms {judged.false_positives}, "
            f"detected {judged.detected}, fooled undetected {judged.fooled_undetected}, "
            f"ROC area {judged.roc_area}"
        )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=THRESHOLDS)
    parser.add_argument("--judge", action="store_true", help="judge what is calibrated")
    parser.add_argument(
        "--models", nargs="*", default=[recipe.id for recipe in RECIPES if recipe.ships]
    )
    arguments = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stdout, flush=True)

    found = find_models()
    thresholds = []
    for recipe in (recipe for recipe in RECIPES if recipe.id in arguments.models):
        loaded = load_model(*found[recipe.id])
        if arguments.judge:
            judge(loaded, recipe, arguments.data, say)
            continue
        known = calibrate(loaded, load_data(recipe, arguments.data)[1], data=DATA)
        say(f"{known.model}: {known.threshold:.4f}, {known.alarms} alarms of {known.images}")
        thresholds.append(known)
    if thresholds:
        write_thresholds(thresholds, arguments.out)


if __name__ == "__main__":
    main()
