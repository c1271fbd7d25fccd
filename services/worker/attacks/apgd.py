"""Auto-PGD (Croce and Hein 2020): the step size adapts itself."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from services.worker.attacks.ball import Ball, Norm
from services.worker.attacks.base import Attack, State
from services.worker.attacks.projected import LossName, loss_named
from services.worker.attacks.scene import Scene

FOLLOW = 0.75  # share of the new step; the rest goes on along the last one
PROGRESS = 0.75  # share of steps that must raise the loss, or else the step is halved


@dataclass(frozen=True, kw_only=True)
class APGD(Attack):
    """``steps`` steps from each of ``restarts`` random starts within ``eps`` (units of 1/255).

    The step starts at ``2 * eps`` and is halved, back at the best point, when the loss stalls at a
    checkpoint of the paper's schedule. ``margin`` takes the place of the DLR loss, which needs
    four classes.
    """

    name = "apgd"
    uses_gradients = True

    eps: float = 8.0
    norm: Norm = "linf"
    loss: LossName = "ce"
    steps: int = 100
    restarts: int = 1
    early_stop: bool = True

    @property
    def total_steps(self) -> int:
        return self.restarts * self.steps

    def checkpoints(self) -> dict[int, int]:
        """Return at which steps the step size is looked at, and how many steps before count."""
        window = max(int(0.22 * self.steps), 1)
        shortest, shrink = max(int(0.06 * self.steps), 1), max(int(0.03 * self.steps), 1)
        found, at = {}, window
        while at < self.steps:
            found[at] = window
            window = max(window - shrink, shortest)
            at += window
        return found

    def begin(self, scene: Scene) -> State:
        return self._start(scene, 0)

    def _start(self, scene: Scene, number: int) -> State:
        ball = scene.derived(Ball, lambda: Ball(scene, eps=self.eps, norm=self.norm))
        start = ball.random(scene, number)
        rows = (len(start), 1, 1, 1)
        low = torch.full((len(start),), -math.inf, device=start.device)
        return {
            "levels": start,
            "last": start.clone(),
            "best": start.clone(),
            "best_gradient": torch.zeros_like(start),
            "step": torch.full(rows, 2 * self.eps, device=start.device),
            "loss": low,
            "best_loss": low.clone(),
            "rises": torch.zeros_like(low),
            "halved": torch.ones_like(low, dtype=torch.bool),
            "checked_loss": low.clone(),
        }

    def step(self, scene: Scene, state: State, number: int) -> Tensor:
        phase = number % self.steps
        if phase == 0 and number:
            state.update(self._start(scene, number))
        ball = scene.derived(Ball, lambda: Ball(scene, eps=self.eps, norm=self.norm))
        loss_of = loss_named(self.loss, scene.criterion)
        shown = ball.grid(state["levels"])
        logits, gradient = scene.gradient(shown, loss_of)
        margin = scene.criterion.margin(logits)
        met, known = scene.met(shown, margin)
        scene.offer(shown, met, margin, known=known)

        loss = loss_of(logits, torch.arange(len(logits), device=logits.device))
        state["rises"] += loss > state["loss"]
        state["loss"] = loss
        risen = loss > state["best_loss"]
        state["best_loss"] = torch.where(risen, loss, state["best_loss"])
        wide = risen[:, None, None, None]
        state["best"] = torch.where(wide, state["levels"], state["best"])
        state["best_gradient"] = torch.where(wide, gradient, state["best_gradient"])
        window = self.checkpoints().get(phase)
        if window is not None:
            gradient = self._check(state, gradient, window)
        self._move(ball, state, gradient, first=phase == 0)
        return met if self.early_stop else torch.zeros_like(met)

    def _check(self, state: State, gradient: Tensor, window: int) -> Tensor:
        """Halve the step of stalled images and put them back at their best point."""
        stalled = state["rises"] < PROGRESS * window
        stuck = ~state["halved"] & (state["best_loss"] <= state["checked_loss"])
        halve = stalled | stuck
        wide = halve[:, None, None, None]
        state["step"] = torch.where(wide, state["step"] / 2, state["step"])
        state["levels"] = torch.where(wide, state["best"], state["levels"])
        state["last"] = torch.where(wide, state["best"], state["last"])
        state["halved"], state["checked_loss"] = halve, state["best_loss"].clone()
        state["rises"] = torch.zeros_like(state["rises"])
        return torch.where(wide, state["best_gradient"], gradient)

    def _move(self, ball: Ball, state: State, gradient: Tensor, *, first: bool) -> None:
        here = state["levels"]
        target = ball.ascend(here.clone(), gradient.clone(), state["step"])
        if not first:
            carried = here + FOLLOW * (target - here) + (1 - FOLLOW) * (here - state["last"])
            target = ball.project(carried)
        state["last"], state["levels"] = here, target
