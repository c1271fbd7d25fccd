"""The fast gradient sign method (Goodfellow, Shlens and Szegedy 2014)."""

from dataclasses import dataclass

from services.worker.attacks.ball import whole_eps
from services.worker.attacks.projected import Projected


@dataclass(frozen=True, kw_only=True)
class FGSM(Projected):
    """One step of length ``eps`` from the original."""

    name = "fgsm"

    @property
    def iterations(self) -> int:
        return 1

    @property
    def step_length(self) -> float:
        return float(whole_eps(self.eps)) if self.norm == "linf" else self.eps
