"""Runs the attack of an ``attack`` job, and beside an iterated one a single step."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from services.worker.attacks.base import Attack
from services.worker.attacks.criteria import Criterion, Targeted, Untargeted
from services.worker.attacks.fgsm import FGSM
from services.worker.attacks.region import Region
from services.worker.attacks.results import AttackBatch
from services.worker.attacks.run import Progress, run
from services.worker.attacks.sanity import ITERATED
from services.worker.jobs.evaluate_plan import build_attack
from services.worker.models.base import Classifier
from shared.problems import Problem
from shared.specs.attack import AttackChoice

FACES_AT_ONCE = 64


@dataclass(frozen=True)
class Search:
    """What an attack found, and FGSM on the same images, which an iterated one must beat.

    ``places`` ``(x, y)`` are where the attacked pictures begin in their photos; none for crops.
    """

    batch: AttackBatch
    one_step: AttackBatch | None
    places: tuple[tuple[int, int], ...] = ()


def build(choice: AttackChoice) -> Attack:
    """Build the attack of a spec; raises ``invalid-input`` for parameters that do not go."""
    eps, norm = getattr(choice, "eps", None), getattr(choice, "norm", "linf")
    if eps is not None and norm == "linf" and eps < 1:
        raise Problem("invalid-input", "An eps under 1/255 changes nothing on the 8-bit grid.")
    return build_attack(choice)


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
    check_cancel: Callable[[], None],
) -> Search:
    """Attack images uint8 ``(N, 3, H, W)``, numbered from ``first`` among those of the job."""
    region, numbers = Region(allowed), range(first, first + len(images))
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


@torch.inference_mode()
def logits_of(model: Classifier, faces: Tensor) -> Tensor:
    """Return the logits ``(N, C)`` of uint8 faces, on the CPU."""
    device = model.mean.device
    parts = [model(part.to(device).float().div(255)).cpu() for part in faces.split(FACES_AT_ONCE)]
    return torch.cat(parts) if parts else torch.empty(0, len(model.classes))
