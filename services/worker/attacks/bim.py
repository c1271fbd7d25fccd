"""The basic iterative method (Kurakin, Goodfellow and Bengio 2016)."""

from dataclasses import dataclass

from services.worker.attacks.projected import Projected


@dataclass(frozen=True, kw_only=True)
class BIM(Projected):
    """``steps`` steps of ``step_size`` (units of 1/255) from the original.

    ``step_size`` is ``2.5 * eps / steps`` by default: the steps together reach beyond ``eps``.
    """

    name = "bim"

    steps: int = 10
    step_size: float | None = None

    @property
    def iterations(self) -> int:
        return self.steps

    @property
    def step_length(self) -> float:
        return 2.5 * self.eps / self.steps if self.step_size is None else self.step_size
