"""What a ``train`` spec means: settings, perturbations, and what the model starts from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch

from services.worker.attacks.fgsm import FGSM
from services.worker.attacks.pgd import PGD
from services.worker.models.architectures import build, default_input
from services.worker.models.base import Classifier
from services.worker.training.config import TrainConfig
from services.worker.training.presets import PRESETS, Preset, bf16_helps
from services.worker.training.robust import Adversarial, FewPixels, Perturb
from shared.model_card import ModelCard
from shared.specs.train import (
    Architecture,
    Distillation,
    FgsmTraining,
    FineTune,
    Hyperparameters,
    PgdTraining,
    PixelTraining,
    TrainSpec,
)


@dataclass(frozen=True)
class Plan:
    """A spec with everything decided."""

    architecture: str
    size: int
    classes: tuple[str, ...]
    config: TrainConfig
    perturb: Perturb | None

    def build(self) -> Classifier:
        """Build the network with fresh weights, which follow from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            return build(self.architecture, classes=self.classes, input_size=self.size)


def make_plan(
    spec: TrainSpec,
    classes: Sequence[str],
    device: torch.device,
    *,
    source: ModelCard | None = None,
) -> Plan:
    """Decide what the spec leaves open; ``source`` is the model that it starts from, if any."""
    preset = PRESETS[spec.preset] if spec.preset else None
    architecture = spec.architecture or _architecture(source, preset)
    if spec.input_size is not None:
        size = spec.input_size
    elif preset is not None and preset.architecture == architecture:
        size = preset.input_size
    elif source is not None and source.architecture == architecture:
        size = source.input_size[0]
    else:
        size = default_input(architecture)
    base = preset.config if preset else TrainConfig()
    config = replace(_settled(base, spec.hyperparameters), seed=spec.seed)
    if isinstance(spec.method, FineTune):
        config = replace(
            config,
            frozen_epochs=min(spec.method.frozen_epochs, config.epochs),
            backbone_rate=spec.method.backbone_rate,
        )
    if isinstance(spec.robust, Distillation):
        config = replace(config, temperature=spec.robust.temperature)
    wanted = spec.hyperparameters.precision
    bf16 = wanted == "bfloat16" or (wanted == "auto" and bf16_helps(architecture, device))
    return Plan(architecture, size, tuple(classes), replace(config, bf16=bf16), _perturbation(spec))


def _architecture(source: ModelCard | None, preset: Preset | None) -> str:
    if source is not None and source.architecture in get_args(Architecture):
        return source.architecture
    return preset.architecture if preset else "mobilenet_v3_small"


def _settled(config: TrainConfig, wanted: Hyperparameters) -> TrainConfig:
    """Return the settings with those that the client gave."""
    given: dict[str, Any] = wanted.model_dump(exclude_none=True)
    given.pop("precision")
    balance = given.pop("balance", None)
    if balance is not None:
        given |= {"balanced": balance == "sampling", "class_weights": balance == "weights"}
    augmentation = replace(config.augmentation, **given.pop("augmentation"))
    return replace(config, augmentation=augmentation, **given)


def _perturbation(spec: TrainSpec) -> Perturb | None:
    robust = spec.robust
    if isinstance(robust, FgsmTraining):
        attack: FGSM | PGD = FGSM(eps=robust.eps, norm=robust.norm)
        return Adversarial(attack=attack, share=robust.share, random_start=robust.random_start)
    if isinstance(robust, PgdTraining):
        attack = PGD(
            eps=robust.eps, norm=robust.norm, steps=robust.steps, step_size=robust.step_size
        )
        return Adversarial(attack=attack, share=robust.share, random_start=robust.random_start)
    if isinstance(robust, PixelTraining):
        return FewPixels(pixels=robust.pixels, tries=robust.tries, share=robust.share)
    return None
