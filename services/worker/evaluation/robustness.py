"""The robustness table: model x defense x attack, transferred and adaptive, on the same images.

Carlini et al. (2019): a defense is judged by the attack that goes through it. The attack made
without the defense, which papers often report, stands beside it.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.worker.attacks.base import Attack
from services.worker.attacks.criteria import Untargeted
from services.worker.attacks.results import AttackBatch
from services.worker.attacks.runner import run
from services.worker.attacks.sanity import Side, check_together
from services.worker.defenses.base import derive
from services.worker.defenses.smoothing import RandomizedSmoothing
from services.worker.evaluation.metrics import Rate, wilson
from services.worker.evaluation.outcomes import adversarial
from services.worker.evaluation.paired import McNemar, mcnemar
from services.worker.evaluation.setting import ATTACKING, Setting
from services.worker.stopping import CancelCheck, Progress


@dataclass(frozen=True)
class Draws:
    """A random defense on draws of its own: bool ``(N,)``, and shares of right draws ``(N,)``.

    ``attacked``: which images are right after the adaptive attack, by the majority of ``count``
    draws (a smoothed classifier: by its own rule); ``clean_share`` and ``attacked_share``: how
    many of the draws are right, before and after. A query of the attack averaged ``averaged``.
    """

    count: int
    averaged: int
    attacked: NDArray[np.bool_]
    clean_share: NDArray[np.float64]
    attacked_share: NDArray[np.float64]

    @property
    def clean_accuracy(self) -> float:
        """Mean accuracy of a single draw on clean images."""
        return float(self.clean_share.mean())

    @property
    def robust_accuracy(self) -> float:
        """Mean accuracy of a single draw on attacked images."""
        return float(self.attacked_share.mean())

    def success(self, right: NDArray[np.bool_]) -> float | None:
        """Mean success of the attack against a single draw, over images ``right`` before."""
        return float(1 - self.attacked_share[right].mean()) if right.any() else None


@dataclass(frozen=True)
class Certified:
    """Certificates of clean images: whether the label is the true one, and L2 radii, ``(N,)``.

    The radius is 0 where the smoothed classifier abstains. ``smoothing`` holds the parameters.
    """

    smoothing: RandomizedSmoothing
    right: NDArray[np.bool_]
    radius: NDArray[np.float64]

    @property
    def abstained(self) -> Rate:
        """Share of the images without a certified label."""
        return wilson(int((self.radius == 0).sum()), len(self.radius))

    def accuracy(self, radius: float) -> Rate:
        """Share of the images that no change of L2 norm below ``radius`` turns wrong, at least."""
        held = self.right & (self.radius > 0) & (self.radius >= radius)
        return wilson(int(held.sum()), len(held))


@dataclass(frozen=True)
class Row:
    """A line of the table: per image, bool ``(N,)``, what was right before and after.

    ``adaptive`` is the run through the defense (for no defense: on the model itself),
    ``transferred`` whether the row's classifier is right about images that were attacked without
    the defense; ``None`` where there is none. ``clean`` is with the defense.

    A random defense has ``draws``: how it fared on draws that the attack never saw. They decide
    what withstood, not those that the attack stopped at.
    """

    model: str
    defense: str
    attack: str
    sha256: str
    indices: tuple[int, ...]
    clean: NDArray[np.bool_]
    adaptive: AttackBatch
    transferred: NDArray[np.bool_] | None
    cost_ms: float
    draws: Draws | None = None
    certified: Certified | None = None

    def __post_init__(self) -> None:
        seen = tuple(result.index for result in self.adaptive.results)
        if seen != self.indices or len(self.clean) != len(self.indices):
            raise ValueError("a row's clean and attacked images must be the same ones")
        if self.draws is not None and len(self.draws.attacked) != len(self.indices):
            raise ValueError("a row's draws must be of its images")

    @property
    def withstood(self) -> NDArray[np.bool_]:
        """Which images are classified right after the adaptive attack."""
        if self.draws is not None:
            return self.draws.attacked & self.clean
        right = [result.counted and not result.success for result in self.adaptive.results]
        return np.asarray(right, dtype=bool) & self.clean

    @property
    def outcome(self) -> AttackBatch:
        """The adaptive run, with successes as judged by separate draws where there are such."""
        if self.draws is None:
            return self.adaptive
        judged = zip(self.adaptive.results, self.draws.attacked, strict=True)
        results = tuple(replace(r, success=r.counted and not right) for r, right in judged)
        return replace(self.adaptive, results=results)

    @property
    def withstood_transfer(self) -> NDArray[np.bool_] | None:
        """Which images are classified right, clean and after the transferred attack."""
        return None if self.transferred is None else self.transferred & self.clean

    @property
    def clean_accuracy(self) -> Rate:
        """Accuracy on clean images, with the defense."""
        return wilson(int(self.clean.sum()), len(self.clean))

    @property
    def robust_accuracy(self) -> Rate:
        """Accuracy on images attacked through the defense, over all images."""
        return wilson(int(self.withstood.sum()), len(self.clean))

    @property
    def adaptive_success(self) -> Rate:
        """Success of the adaptive attack over images that were right."""
        return self._success(self.withstood)

    @property
    def transferred_success(self) -> Rate | None:
        """Success of the transferred attack over images that were right."""
        held = self.withstood_transfer
        return None if held is None else self._success(held)

    @property
    def median_queries(self) -> float | None:
        """Median of the queries that successes of the adaptive attack took."""
        found = [r.query_at_success for r in self.outcome.counted if r.success]
        return statistics.median(q for q in found if q) if any(found) else None

    def _success(self, held: NDArray[np.bool_]) -> Rate:
        counted = int(self.clean.sum())
        return wilson(counted - int(held.sum()), counted)


@dataclass(frozen=True)
class Comparison:
    """A defended row against the undefended one of the same model and attack.

    The attack on the model alone is paired with the transferred and with the adaptive attack on
    the defended one; ``only_first`` counts images that only the undefended model got right.
    """

    transferred: McNemar | None
    adaptive: McNemar


def attack_images(
    setting: Setting,
    attack: Attack,
    images: Tensor,
    labels: Tensor,
    *,
    indices: Sequence[int],
    seed: int,
    progress: Progress | None = None,
    check_cancel: CancelCheck | None = None,
) -> AttackBatch:
    """Attack uint8 images ``(N, 3, S, S)`` through all that stands before the classifier."""
    return run(
        attack,
        setting.target(seed=derive(seed, ATTACKING, *indices[:1])),
        images,
        Untargeted(labels),
        seed=seed,
        indices=indices,
        progress=progress,
        check_cancel=check_cancel,
    )


def right(
    setting: Setting,
    images: Tensor,
    labels: Tensor,
    *,
    seed: int,
    first: int = 0,
    check_cancel: CancelCheck | None = None,
) -> NDArray[np.bool_]:
    """Return which images are classified right, the defense in front."""
    found = setting.answers(images, seed=seed, first=first, check_cancel=check_cancel)
    return np.asarray(found.right(labels).numpy(), dtype=bool)


def transfer(
    setting: Setting,
    undefended: AttackBatch,
    labels: Tensor,
    *,
    seed: int,
    first: int = 0,
    check_cancel: CancelCheck | None = None,
) -> NDArray[np.bool_]:
    """Return which images attacked without the defense are right with it."""
    pictures = adversarial(undefended)
    return right(setting, pictures, labels, seed=seed, first=first, check_cancel=check_cancel)


def compare(row: Row, undefended: Row) -> Comparison:
    """Pair a defended row with the undefended one.

    Raises ``ValueError`` unless they are of the same images, weights and attack.
    """
    same = (row.indices, row.sha256, row.attack) == (
        undefended.indices,
        undefended.sha256,
        undefended.attack,
    )
    if not same:
        raise ValueError("only rows of the same images, weights and attack can be paired")
    transferred = row.withstood_transfer
    return Comparison(
        None if transferred is None else mcnemar(undefended.withstood, transferred),
        mcnemar(undefended.withstood, row.withstood),
    )


def find_faults(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return a sentence for each sanity gate that the rows of one table do not pass."""
    found: list[str] = []
    for key in dict.fromkeys((row.model, row.defense) for row in rows):
        group = [row for row in rows if (row.model, row.defense) == key]
        where = f"{key[0]}, {key[1]}: "
        sides = [Side(row.outcome, row.sha256) for row in group]
        found += [f"{where}{warning.message}" for warning in check_together(sides)]
        for row in group:
            moved = row.transferred_success
            if moved is not None and moved.successes > row.adaptive_success.successes:
                found.append(
                    f"{where}{row.attack} fooled {moved.successes} images without going through "
                    f"the defense and {row.adaptive_success.successes} going through it: the "
                    "defense hides its gradients or costs queries; the larger figure counts."
                )
    return tuple(dict.fromkeys(found))


def sample(count: int, most: int | None, *, seed: int) -> tuple[int, ...]:
    """Return the numbers of a seeded sample of ``count`` images, in order."""
    if most is None or most >= count:
        return tuple(range(count))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return tuple(sorted(order[:most].tolist()))
