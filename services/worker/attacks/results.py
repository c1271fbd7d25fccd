"""What an attack reports: one frozen result an image, a container, and a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class AttackResult:
    """How one image fared. Everything after the attack is read from ``adversarial`` itself.

    ``queries`` counts the images shown to the model (those that a gradient was taken of too),
    ``query_at_success`` is the first that met the criterion, ``gradients`` counts gradients.
    ``confidence_*`` are the softmax values of the true class ``label``. ``l0`` counts changed
    pixels; ``l2`` and ``linf`` are in units of 1/255. ``adversarial`` is RGB ``(H, W, 3)``.
    """

    index: int
    success: bool
    met_before: bool
    queries: int
    gradients: int
    query_at_success: int | None
    zero_gradients: int
    label: int
    label_before: int
    label_after: int
    confidence_before: float
    confidence_after: float
    l0: int
    l2: float
    linf: int
    adversarial: NDArray[np.uint8]

    @property
    def correct_before(self) -> bool:
        """Whether the model was right about the original."""
        return self.label_before == self.label

    @property
    def counted(self) -> bool:
        """Whether a success is the attack's: the original was right, and not yet the target."""
        return self.correct_before and not self.met_before


@dataclass(frozen=True)
class AttackBatch:
    """The results of one run, in the order of the images given, and the run's parameters."""

    attack: str
    parameters: Mapping[str, Any]
    targeted: bool
    uses_gradients: bool
    seed: int
    results: tuple[AttackResult, ...]

    @property
    def counted(self) -> tuple[AttackResult, ...]:
        """The images that success rates are taken over."""
        return tuple(result for result in self.results if result.counted)

    @property
    def successes(self) -> int:
        """Successes among the counted images."""
        return sum(result.success for result in self.counted)

    @property
    def success_rate(self) -> float:
        """Successes over counted images (0 of none)."""
        return self.successes / max(1, len(self.counted))

    def success_curve(self) -> tuple[tuple[int, int], ...]:
        """Return ``(queries, counted images fooled with at most so many)``, growing."""
        at = sorted(
            result.query_at_success
            for result in self.counted
            if result.success and result.query_at_success is not None
        )
        return tuple((query, number + 1) for number, query in enumerate(at))
