"""The momentum iterative method, MI-FGSM (Dong et al. 2018)."""

from dataclasses import dataclass

from services.worker.attacks.projected import Projected


@dataclass(frozen=True, kw_only=True)
class MIFGSM(Projected):
    """Steps along gradients that are accumulated, each divided by its mean size, with ``decay``.

    ``step_size`` (units of 1/255) is ``eps / steps`` by default, as in the paper.
    """

    name = "mifgsm"

    steps: int = 10
    step_size: float | None = None
    decay: float = 1.0

    @property
    def iterations(self) -> int:
        return self.steps

    @property
    def step_length(self) -> float:
        return self.eps / self.steps if self.step_size is None else self.step_size

    @property
    def momentum(self) -> float | None:
        return self.decay
