"""Projected gradient steps within a ball: the core that FGSM, BIM, MI-FGSM and PGD share."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from services.worker.attacks.ball import Ball, Norm
from services.worker.attacks.base import Attack, State
from services.worker.attacks.criteria import Criterion
from services.worker.attacks.scene import Loss, Scene

LossName = Literal["ce", "margin"]


def loss_named(name: LossName, criterion: Criterion) -> Loss:
    """Return a loss to maximize; both work from two classes."""
    if name == "ce":
        return lambda logits, rows: criterion.take(rows).cross_entropy(logits)
    return lambda logits, rows: -criterion.take(rows).margin(logits)


@dataclass(frozen=True, kw_only=True)
class Projected(Attack):
    """Steps along the gradient, projected into the ball of ``eps`` (units of 1/255).

    The gradient is taken at the image rounded to 8 bits, so that what is checked is what is
    delivered and no forward pass is spent on checking alone, except after the last step. The
    image kept is the one of the lowest margin. ``early_stop`` drops images at their first success.
    """

    uses_gradients = True

    eps: float = 8.0
    norm: Norm = "linf"
    loss: LossName = "ce"
    early_stop: bool = True

    @property
    @abstractmethod
    def iterations(self) -> int:
        """Gradient steps from one starting point."""

    @property
    @abstractmethod
    def step_length(self) -> float:
        """Length of a step in units of 1/255."""

    @property
    def starts(self) -> int:
        """Starting points."""
        return 1

    @property
    def starts_at_random(self) -> bool:
        """Whether starting points are drawn from the ball, not the original."""
        return False

    @property
    def momentum(self) -> float | None:
        """Decay of the accumulated gradient; None for none."""
        return None

    @property
    def total_steps(self) -> int:
        return self.starts * (self.iterations + 1)

    def begin(self, scene: Scene) -> State:
        state = {"levels": scene.levels.clone()}
        if self.momentum is not None:
            state["momentum"] = torch.zeros_like(scene.levels)
        return state

    def step(self, scene: Scene, state: State, number: int) -> Tensor:
        ball = scene.derived(Ball, lambda: Ball(scene, eps=self.eps, norm=self.norm))
        phase = number % (self.iterations + 1)
        if phase == 0 and self.starts_at_random:
            state["levels"] = ball.random(scene, number)
        shown = ball.grid(state["levels"])
        known: Tensor | None
        if phase == self.iterations:
            logits = known = scene.ask_exactly(shown)
            margin = scene.criterion.margin(logits)
            met = margin < 0
        else:
            logits, gradient = scene.gradient(shown, loss_named(self.loss, scene.criterion))
            margin = scene.criterion.margin(logits)
            ball.ascend(state["levels"], self._accumulated(state, gradient), self.step_length)
            met, known = scene.met(shown, margin)
        scene.offer(shown, met, margin, known=known)
        return met if self.early_stop else torch.zeros_like(met)

    def _accumulated(self, state: State, gradient: Tensor) -> Tensor:
        if self.momentum is None:
            return gradient
        mean = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-20)
        state["momentum"].mul_(self.momentum).add_(gradient / mean)
        return state["momentum"].clone()
