"""Projected gradient descent (Madry et al. 2018)."""

from dataclasses import dataclass

from services.worker.attacks.projected import Projected


@dataclass(frozen=True, kw_only=True)
class PGD(Projected):
    """``steps`` steps of ``step_size`` (units of 1/255), from ``restarts`` random starts.

    ``step_size`` is ``2.5 * eps / steps`` by default. Without ``random_start`` there is one start,
    the original.
    """

    name = "pgd"

    steps: int = 10
    step_size: float | None = None
    random_start: bool = True
    restarts: int = 1

    def __post_init__(self) -> None:
        if self.restarts > 1 and not self.random_start:
            raise ValueError("restarts from the same point find the same image: start at random")

    @property
    def iterations(self) -> int:
        return self.steps

    @property
    def step_length(self) -> float:
        return 2.5 * self.eps / self.steps if self.step_size is None else self.step_size

    @property
    def starts(self) -> int:
        return self.restarts

    @property
    def starts_at_random(self) -> bool:
        return self.random_start
