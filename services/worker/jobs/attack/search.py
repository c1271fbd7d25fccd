"""Runs the attack of an ``attack`` job, and beside an iterated one a single step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from services.worker.attacks.base import Attack
from services.worker.attacks.criteria import Criterion, Targeted, Untargeted
from services.worker.attacks.exhaustive import Exhaustive
from services.worker.attacks.fgsm import FGSM
from services.worker.attacks.region import Region
from services.worker.attacks.results import AttackBatch
from services.worker.attacks.runner import run
from services.worker.attacks.sanity import ITERATED
from services.worker.attacks.sparse_rs import SparseRS
from services.worker.evaluation.outcomes import join
from services.worker.models.base import Classifier
from services.worker.stopping import CancelCheck, Progress
from shared.problems import Problem

FACES_AT_ONCE = 64
_BLACK = np.zeros((1, 1, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Search:
    """What an attack found, and FGSM on the same images, which an iterated one must beat."""

    batch: AttackBatch
    one_step: AttackBatch | None

    def without_pictures(self) -> "Search":
        """Return the figures alone, with a black pixel in the place of each picture."""
        one_step = None if self.one_step is None else without_pictures(self.one_step)
        return Search(without_pictures(self.batch), one_step)


def joined(searches: Sequence[Search]) -> Search:
    """Put searches for different images together; raises ``IndexError`` for none."""
    one_steps = [one.one_step for one in searches if one.one_step is not None]
    return Search(join([one.batch for one in searches]), join(one_steps) if one_steps else None)


def without_pictures(batch: AttackBatch) -> AttackBatch:
    """Return a batch with a black pixel in the place of each picture."""
    results = tuple(replace(result, adversarial=_BLACK) for result in batch.results)
    return replace(batch, results=results)


def criterion_of(
    logits: Tensor, *, labels: tuple[int, ...] | None, target: int | None
) -> Criterion:
    """Return what is wanted of faces with these clean logits ``(N, C)``.

    ``labels`` are the true classes; ``None``: as the logits say.
    """
    true = logits.argmax(1) if labels is None else torch.tensor(labels, dtype=torch.long)
    return Untargeted(true) if target is None else Targeted(torch.full_like(true, target), true)


def search(
    attack: Attack,
    model: Classifier,
    images: Tensor,
    criterion: Criterion,
    *,
    allowed: Tensor,
    first: int,
    seed: int,
    progress: Progress,
    check_cancel: CancelCheck,
) -> Search:
    """Attack images uint8 ``(N, 3, H, W)``, numbered from ``first`` among those of the job.

    ``allowed`` bool ``(N, H, W)`` are the pixels that may change. Raises the problem
    ``invalid-input`` where they are too few for the attack.
    """
    region, numbers = Region(allowed), range(first, first + len(images))
    attack = _fitted(attack, allowed)
    batch = run(
        attack,
        model,
        images,
        criterion,
        region=region,
        seed=seed,
        indices=numbers,
        progress=progress,
        check_cancel=check_cancel,
    )
    if attack.name not in ITERATED:
        return Search(batch, None)
    one_step = run(
        FGSM(eps=batch.parameters["eps"], norm=batch.parameters["norm"]),
        model,
        images,
        criterion,
        region=region,
        seed=seed,
        indices=numbers,
        check_cancel=check_cancel,
    )
    return Search(batch, one_step)


def _fitted(attack: Attack, allowed: Tensor) -> Attack:
    counts = allowed.flatten(1).sum(1)
    fewest = int(counts.min())
    if isinstance(attack, SparseRS) and attack.pixels > fewest:
        said = f"The attack moves {attack.pixels} pixels, and a face's region has {fewest}."
        raise Problem("invalid-input", said)
    if isinstance(attack, Exhaustive):
        return replace(attack, most_positions=int(counts.max()))
    return attack


@torch.inference_mode()
def logits_of(model: Classifier, faces: Tensor) -> Tensor:
    """Return the logits ``(N, C)`` of uint8 faces, on the CPU."""
    device = model.mean.device
    parts = [model(part.to(device).float().div(255)).cpu() for part in faces.split(FACES_AT_ONCE)]
    return torch.cat(parts) if parts else torch.empty(0, len(model.classes))
