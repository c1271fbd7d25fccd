"""The Carlini and Wagner attack (2017), L2."""

from dataclasses import dataclass

import torch
from torch import Tensor

from services.worker.attacks.base import Attack, State
from services.worker.attacks.minimal import offer_smallest
from services.worker.attacks.scene import Scene

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Adam (Kingma and Ba 2015)
INSIDE = 0.999999  # black and white are at infinity in the space of tanh


@dataclass(frozen=True, kw_only=True)
class CW(Attack):
    """Minimize ``|x' - x|² + c max(margin + confidence, 0)`` with Adam in the space of tanh.

    ``c`` starts at ``initial_c`` and is searched in ``searches`` rounds of ``steps`` steps. The
    loss is taken at the image rounded to 8 bits and its gradient passed on as if it were not.
    """

    name = "cw"
    uses_gradients = True

    steps: int = 100
    searches: int = 6
    initial_c: float = 0.1
    learning_rate: float = 0.01
    confidence: float = 0.0

    @property
    def total_steps(self) -> int:
        return self.searches * self.steps

    def begin(self, scene: Scene) -> State:
        count = (len(scene.rows),)
        device = scene.levels.device
        bounds = {
            "c": torch.full(count, self.initial_c, device=device),
            "low": torch.zeros(count, device=device),
            "high": torch.full(count, float("inf"), device=device),
        }
        return bounds | self._restart(scene)

    def _restart(self, scene: Scene) -> State:
        start = ((scene.levels / 255 * 2 - 1) * INSIDE).atanh()
        return {
            "w": start,
            "first": torch.zeros_like(start),
            "second": torch.zeros_like(start),
            "met": torch.zeros(len(start), dtype=torch.bool, device=start.device),
        }

    def step(self, scene: Scene, state: State, number: int) -> Tensor:
        phase = number % self.steps
        tanh = state["w"].tanh()
        levels = torch.where(scene.allowed[:, None], (tanh + 1) * 127.5, scene.levels)
        shown = levels.round()
        criterion = scene.criterion

        def hinge(logits: Tensor, rows: Tensor) -> Tensor:
            return (criterion.take(rows).margin(logits) + self.confidence).clamp(min=0)

        logits, gradient = scene.gradient(shown, hinge)
        margin = criterion.margin(logits)
        offer_smallest(scene, shown, margin)
        state["met"] |= margin < 0
        gradient *= state["c"][:, None, None, None]
        gradient += 2 / 255 * (shown - scene.levels)
        gradient *= (1 - tanh**2) / 2 * scene.allowed[:, None]
        self._descend(state, gradient, phase + 1)
        if phase + 1 == self.steps:
            self._search(state)
            state.update(self._restart(scene))
        return torch.zeros_like(state["met"])

    def _descend(self, state: State, gradient: Tensor, count: int) -> None:
        state["first"].lerp_(gradient, 1 - BETA1)
        state["second"].lerp_(gradient**2, 1 - BETA2)
        first = state["first"] / (1 - BETA1**count)
        second = state["second"] / (1 - BETA2**count)
        state["w"] -= self.learning_rate * first / (second.sqrt() + EPSILON)

    def _search(self, state: State) -> None:
        """Move c between what succeeded and what did not; tenfold while nothing succeeded."""
        met, c = state["met"], state["c"]
        state["high"] = torch.where(met, torch.minimum(state["high"], c), state["high"])
        state["low"] = torch.where(met, state["low"], torch.maximum(state["low"], c))
        bounded = state["high"].isfinite()
        state["c"] = torch.where(bounded, (state["low"] + state["high"]) / 2, c * 10)
