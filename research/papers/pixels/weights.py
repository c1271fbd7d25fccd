"""The models of the tables: shipped ones, and those trained here and cached."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from research.train.classifiers import (
    BINARY,
    LICENSE,
    MARGIN,
    Recipe,
    config_here,
    load_data,
    start,
)
from services.worker.models.registry import LoadedModel, find_models, load_model, save_model
from services.worker.training.checkpoint import pack, unpack
from services.worker.training.config import TrainConfig
from services.worker.training.loop import State, train

Say = Callable[[str], None]

RESNET = Recipe(
    id="mask-resnet34-32",
    task="mask",
    architecture="resnet34_7x7",  # the paper's: torchvision's network as it is
    size=32,
    classes=BINARY,
    config=TrainConfig(epochs=40, max_lr=2e-3, batch_size=128, bf16=True, seed=1),
)
TRAINED_HERE = {RESNET.id: RESNET}


class NotTrainedError(Exception):
    """Weights that this run was not to train, and that nobody trained before."""


def model(name: str, *, data: Path, cache: Path, may_train: bool, say: Say) -> LoadedModel:
    """Return a shipped or cached model, trained first where it may be.

    Training goes on from its last epoch when it was stopped. Raises ``NotTrainedError``.
    """
    found = find_models(cache)
    if name not in found:
        if name not in TRAINED_HERE or not may_train:
            raise NotTrainedError(f"the weights of {name} have not been trained here")
        _make(TRAINED_HERE[name], data, cache, say)
        found = find_models(cache)
    card, folder = found[name]
    return load_model(card, folder)


def _make(recipe: Recipe, data: Path, cache: Path, say: Say) -> None:
    training, validation = load_data(recipe, data)
    say(f"{recipe.id}: {len(training)} images {training.counts}, validation {validation.counts}")
    config = config_here(recipe)
    tensors, document = cache / f"{recipe.id}.safetensors", cache / f"{recipe.id}.json"
    began = time.monotonic()

    def keep(state: State) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        weights, outline = pack(state)
        for path, content in ((tensors, weights), (document, outline.encode())):
            part = path.with_suffix(f"{path.suffix}.part")
            part.write_bytes(content)
            part.replace(path)
        say(
            f"  {len(state['history'])} of {config.epochs} epochs, {time.monotonic() - began:.0f} s"
        )

    resume = None
    if tensors.is_file() and document.is_file():
        resume = unpack(tensors.read_bytes(), document.read_text(encoding="utf-8"))
    trained = train(start(recipe, cache), training, validation, config, save=keep, resume=resume)
    save_model(
        trained.classifier,
        cache,
        half=True,
        id=recipe.id,
        task=recipe.task,
        crop_margin=MARGIN,
        license=LICENSE,
        training_data={"counts": training.counts, "fingerprint": training.fingerprint},
        training={
            "script": "python -m research.papers.pixels",
            "config": asdict(config),
            "best_epoch": trained.best.number,
            "seconds": round(trained.seconds),
            "torch": torch.__version__,
        },
        metrics={"validation_accuracy": round(trained.best.val_accuracy, 4)},
    )
    for path in (tensors, document):
        path.unlink(missing_ok=True)
