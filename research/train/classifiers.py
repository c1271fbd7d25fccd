"""Trains the models that ship: ``python -m research.train.classifiers --help``.

Only training and validation folders are read; the test folders are for the final figures, which
``research.measure.classifiers`` makes.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from services.worker.datasets.labeled import LabeledImages, join, load_class_folders, load_voc_faces
from services.worker.models.architectures import build
from services.worker.models.base import Classifier
from services.worker.models.heads import head_of
from services.worker.models.recognizers import TASK as RECOGNIZE
from services.worker.models.recognizers import recognizer_of
from services.worker.models.registry import (
    BUNDLED,
    ModelUnavailableError,
    find_models,
    load_model,
    save_model,
)
from services.worker.training.loop import TrainConfig, train
from services.worker.training.presets import bf16_helps
from shared.model_card import ModelCard

BINARY = ("with_mask", "without_mask")
THREE = (*BINARY, "mask_weared_incorrect")
MARGIN = 0.15
LICENSE = "research and evaluation only; see LICENSE-WEIGHTS.md"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to train, and how."""

    id: str
    task: str
    architecture: str
    size: int
    classes: tuple[str, ...]
    config: TrainConfig
    default: bool = False
    start_from: str | None = None
    # Whether the weights are part of the product; those of others only serve as a start.
    ships: bool = True
    # How far a model trained on balanced classes expects them as often as they occur: exponent of
    # their frequencies (logit adjustment, Menon et al. 2021), chosen by `cross_validate`.
    prior_shift: float = 0.0


RECIPES = (
    Recipe(
        id="mask-cnn-32",
        task="mask",
        architecture="cnn",
        size=32,
        classes=BINARY,
        config=TrainConfig(epochs=60, max_lr=2e-3, batch_size=64, seed=1),
    ),
    Recipe(
        id="mask-mobilenetv3s-112",
        task="mask",
        architecture="mobilenet_v3_small",
        size=112,
        classes=BINARY,
        config=TrainConfig(epochs=40, max_lr=2e-3, batch_size=48, seed=1),
        ships=False,
    ),
    Recipe(
        id="mask-face-112",
        task="mask",
        architecture="face_resnet",
        size=112,
        classes=BINARY,
        config=TrainConfig(epochs=18, max_lr=1e-3, batch_size=48, bf16=True, seed=1),
        default=True,
        start_from="face-student-112",
    ),
    Recipe(
        id="mask3-mobilenetv3s-112",
        task="mask3",
        architecture="mobilenet_v3_small",
        size=112,
        classes=THREE,
        config=TrainConfig(epochs=15, max_lr=5e-4, batch_size=48, balanced=True, seed=1),
        default=True,
        start_from="mask-mobilenetv3s-112",
        prior_shift=0.5,
    ),
)


def config_here(recipe: Recipe) -> TrainConfig:
    """Return the recipe's settings, in float32 where this CPU only imitates bfloat16.

    Imitated, a step of ``face_resnet`` takes ten times as long as in float32.
    """
    fast = bf16_helps(recipe.architecture, torch.device("cpu"))
    return replace(recipe.config, bf16=recipe.config.bf16 and fast)


def load_data(recipe: Recipe, data: Path) -> tuple[LabeledImages, LabeledImages]:
    """Return training and validation images: whole crops and faces cut as in serving."""
    faces = load_voc_faces(
        data / "mask_detection" / "train", recipe.classes, size=recipe.size, margin=MARGIN
    )
    train_faces, val_faces = faces.split(0.15, seed=7)
    folders = data / "mask_classification"
    parts = [
        with_classes(load_class_folders(folders / part, BINARY, size=recipe.size), recipe.classes)
        for part in ("train", "val")
    ]
    return join(parts[0], train_faces), join(parts[1], val_faces)


def with_classes(images: LabeledImages, classes: tuple[str, ...]) -> LabeledImages:
    """Return the same images in a task of more classes, the first of which are theirs."""
    return LabeledImages(images.images, images.labels, classes, images.groups)


def start(recipe: Recipe, *roots: Path) -> Classifier:
    """Build the model, from another one's backbone where the recipe says so.

    Raises ``ModelUnavailableError`` when that one is neither under ``roots`` nor shipped.
    """
    torch.manual_seed(recipe.config.seed)
    classifier = build(recipe.architecture, classes=recipe.classes, input_size=recipe.size)
    if recipe.start_from is None:
        return classifier
    card, folder = _started_from(recipe.start_from, roots)
    if card.task == RECOGNIZE:
        network = recognizer_of(card, folder).network.state_dict()
        keep_fitting(classifier, {f"network.0.{name}": network[name] for name in network})
    else:
        keep_fitting(classifier, load_model(card, folder).classifier.state_dict())
    return classifier


def _started_from(model_id: str, roots: tuple[Path, ...]) -> tuple[ModelCard, Path]:
    found = find_models(*roots)
    if model_id not in found:
        raise ModelUnavailableError(
            f"{model_id} has to be trained first: "
            f"python -m research.train.classifiers --only {model_id}"
        )
    return found[model_id]


def keep_fitting(classifier: Classifier, weights: Mapping[str, Tensor]) -> None:
    """Take over the weights of a model of the same network, but for a head of other classes."""
    own = classifier.state_dict()
    kept = {name: value for name, value in weights.items() if value.shape == own[name].shape}
    classifier.load_state_dict({**own, **kept})


@torch.no_grad()
def expect_frequencies(classifier: Classifier, labels: Tensor, shift: float) -> None:
    """Add the logarithms of the classes' frequencies, times ``shift``, to the head's bias."""
    counts = torch.bincount(labels, minlength=len(classifier.classes)).clamp(min=1).float()
    bias = head_of(classifier).get_parameter("bias")
    bias.add_(shift * (counts / counts.sum()).log().to(bias))


def make(recipe: Recipe, data: Path, root: Path, scratch: Path, say: Callable[[str], None]) -> None:
    """Train one model and write it with its card: under ``scratch`` if it does not ship."""
    training, validation = load_data(recipe, data)
    say(f"{recipe.id}: {len(training)} images {training.counts}, validation {validation.counts}")
    began = time.monotonic()

    def progress(done: int, total: int, message: str) -> None:
        if done % max(1, total // (4 * recipe.config.epochs)) == 0:
            say(f"  {done}/{total} {message} ({time.monotonic() - began:.0f} s)")

    config = config_here(recipe)
    trained = train(start(recipe, root, scratch), training, validation, config, progress=progress)
    say(f"  best epoch {trained.best}")
    expect_frequencies(trained.classifier, training.labels, recipe.prior_shift)
    card = save_model(
        trained.classifier,
        root if recipe.ships else scratch,
        half=True,
        id=recipe.id,
        task=recipe.task,
        crop_margin=MARGIN,
        default=recipe.default,
        license=LICENSE,
        lineage=_lineage(recipe, root, scratch),
        training_data={
            "sources": ["mask_classification/train", "mask_detection/train (85 % of its photos)"],
            "counts": training.counts,
            "fingerprint": training.fingerprint,
            "validation_fingerprint": validation.fingerprint,
        },
        training={
            "script": f"python -m research.train.classifiers --only {recipe.id}",
            "config": asdict(config),
            "best_epoch": trained.best.number,
            "prior_shift": recipe.prior_shift,
            "seconds": round(time.monotonic() - began),
            "torch": torch.__version__,
        },
        metrics={
            "validation_accuracy": round(trained.best.val_accuracy, 4),
            "validation_loss": round(trained.best.val_loss, 4),
        },
    )
    say(f"  wrote {card.id}, {card.size / 2**20:.1f} MiB")


def _lineage(recipe: Recipe, *roots: Path) -> tuple[str, ...]:
    """Return the models that a model descends from."""
    if recipe.start_from is None:
        return ()
    card, _ = _started_from(recipe.start_from, roots)
    return (card.id, *card.lineage)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=BUNDLED)
    parser.add_argument(
        "--scratch", type=Path, default=Path("reproduction"), help="for models that do not ship"
    )
    parser.add_argument("--only", nargs="*", help="ids of models to train")
    arguments = parser.parse_args()
    for recipe in RECIPES:
        if not arguments.only or recipe.id in arguments.only:
            say = partial(print, file=sys.stderr, flush=True)
            make(recipe, arguments.data, arguments.out, arguments.scratch, say)


if __name__ == "__main__":
    main()
