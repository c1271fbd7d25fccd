"""The attack and defense cycle: learn from what the attack found, and be attacked again.

Park et al. 2022 propose it for mask detectors ("iterating the attack and defense cycle"). The
attack's finds come from training images only; every round is judged on held-out ones.
"""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from services.worker.attacks.base import Attack
from services.worker.attacks.results import AttackBatch
from services.worker.datasets.labeled import LabeledImages
from services.worker.defenses.base import derive
from services.worker.evaluation.metrics import Rate, wilson
from services.worker.evaluation.outcomes import adversarial
from services.worker.evaluation.robustness import attack_images, sample
from services.worker.evaluation.setting import Setting
from services.worker.models.base import Classifier
from services.worker.stopping import CancelCheck, Progress
from services.worker.training.config import TrainConfig
from services.worker.training.loop import train

RETRAIN = TrainConfig(epochs=3, max_lr=3e-4, batch_size=64)


@dataclass(frozen=True)
class Judged:
    """A round: figures on the held-out images, after so many finds were learned from."""

    clean: Rate
    robust: Rate
    finds: int


def judge_round(
    classifier: Classifier,
    attack: Attack,
    held_out: LabeledImages,
    *,
    finds: int,
    seed: int,
    progress: Progress | None = None,
    check_cancel: CancelCheck | None = None,
) -> Judged:
    """Attack the classifier on held-out images."""
    batch = _attacked(
        classifier, attack, held_out, seed=seed, progress=progress, check_cancel=check_cancel
    )
    clean = [result.correct_before for result in batch.results]
    stood = [result.counted and not result.success for result in batch.results]
    return Judged(wilson(sum(clean), len(clean)), wilson(sum(stood), len(stood)), finds)


def find(
    classifier: Classifier,
    attack: Attack,
    training: LabeledImages,
    *,
    most: int,
    seed: int,
    progress: Progress | None = None,
    check_cancel: CancelCheck | None = None,
) -> tuple[Tensor, Tensor]:
    """Attack a sample of the training images; returns what fooled, uint8 images and labels."""
    chosen = training.select(sample(len(training), most, seed=seed))
    batch = _attacked(
        classifier, attack, chosen, seed=seed, progress=progress, check_cancel=check_cancel
    )
    fooled = torch.tensor([r.counted and r.success for r in batch.results], dtype=torch.bool)
    return adversarial(batch)[fooled], chosen.labels[fooled]


def retrain(
    classifier: Classifier,
    training: LabeledImages,
    finds: tuple[Tensor, Tensor],
    *,
    seed: int,
    config: TrainConfig = RETRAIN,
    progress: Progress | None = None,
    check_cancel: CancelCheck | None = None,
) -> Classifier:
    """Return a copy that went on learning from training images and all finds, each kind half.

    15 % of the training photos, with finds of none of theirs, choose the epoch.
    """
    learned, validation = training.split(0.15, seed=seed)
    images, labels = finds
    repeats = max(1, len(learned) // max(1, len(labels)))
    learned = LabeledImages(
        torch.cat([learned.images, *[images] * repeats]),
        torch.cat([learned.labels, *[labels] * repeats]),
        learned.classes,
        (*learned.groups, *("finds",) * (repeats * len(labels))),
    )
    made = copy.deepcopy(classifier).requires_grad_(True)
    device = next(classifier.parameters()).device
    size = min(config.batch_size, len(learned))
    trained = train(
        made,
        learned,
        validation,
        replace(config, batch_size=size, seed=seed),
        device=device,
        progress=progress,
        check_cancel=check_cancel,
    )
    return trained.classifier.eval().requires_grad_(False)


def with_weights(classifier: Classifier, state: dict[str, Tensor]) -> Classifier:
    """Return a frozen copy of a classifier with other weights."""
    made = copy.deepcopy(classifier)
    made.load_state_dict(state)
    return made.eval().requires_grad_(False)


def learnable(training: LabeledImages, *, seed: int) -> LabeledImages:
    """Return the training images that finds may be made of: those ``retrain`` learns from."""
    return training.split(0.15, seed=seed)[0]


def _attacked(
    classifier: Classifier,
    attack: Attack,
    data: LabeledImages,
    *,
    seed: int,
    progress: Progress | None,
    check_cancel: CancelCheck | None,
) -> AttackBatch:
    return attack_images(
        Setting(classifier, classifier.input_size[0]),
        attack,
        data.images,
        data.labels,
        indices=range(len(data)),
        seed=derive(seed, 0) % 2**31,
        progress=progress,
        check_cancel=check_cancel,
    )
