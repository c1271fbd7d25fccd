"""The Square attack: score-based random search (Andriushchenko et al. 2020), L-infinity."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from services.worker.attacks.ball import Ball, whole_eps
from services.worker.attacks.base import Attack, State
from services.worker.attacks.scene import Scene

# After so many of 10,000 queries (scaled to the budget), the squares' area is divided.
SCHEDULE = (
    (10, 2),
    (50, 4),
    (200, 8),
    (500, 16),
    (1000, 32),
    (2000, 64),
    (4000, 128),
    (6000, 256),
    (8000, 512),
)


@dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """Set one square to ``±eps`` (units of 1/255) a query and keep it when the margin falls.

    Starts from vertical stripes of ``±eps``. ``area`` is the squares' share of the image in the
    beginning. No gradients; ``queries`` is the budget.
    """

    name = "square"

    eps: float = 8.0
    queries: int = 1000
    area: float = 0.8

    @property
    def total_steps(self) -> int:
        return self.queries

    def side(self, number: int, height: int, width: int) -> int:
        """Return the side of the square of query ``number``."""
        scaled = int(number / self.queries * 10_000)
        divisor = [part for after, part in SCHEDULE if scaled > after][-1:] or [1]
        side = round(math.sqrt(self.area / divisor[0] * height * width))
        return min(max(side, 1), height, width)

    def begin(self, scene: Scene) -> State:
        margin = torch.full((len(scene.rows),), float("inf"), device=scene.levels.device)
        return {"levels": scene.levels.clone(), "margin": margin}

    def step(self, scene: Scene, state: State, number: int) -> Tensor:
        ball = scene.derived(Ball, lambda: Ball(scene, eps=self.eps, norm="linf"))
        if number == 0:
            signs = scene.random(0, 3, 1, scene.levels.shape[3]).sub_(0.5).sign()
            candidate = scene.levels + whole_eps(self.eps) * signs
        else:
            candidate = self._with_square(scene, state["levels"], number)
        candidate = ball.project(candidate.contiguous(memory_format=torch.channels_last))
        margin = scene.criterion.margin(scene.ask(candidate))
        better = margin < state["margin"]
        state["levels"] = torch.where(better[:, None, None, None], candidate, state["levels"])
        state["margin"] = torch.where(better, margin, state["margin"])
        scene.offer(candidate, margin < 0, margin)
        return margin < 0

    def _with_square(self, scene: Scene, levels: Tensor, number: int) -> Tensor:
        height, width = levels.shape[2:]
        side = self.side(number, height, width)
        drawn = scene.random(number, 5)
        top = (drawn[:, 0] * (height - side + 1)).long()[:, None]
        left = (drawn[:, 1] * (width - side + 1)).long()[:, None]
        rows = torch.arange(height, device=levels.device)[None]
        columns = torch.arange(width, device=levels.device)[None]
        inside = ((rows >= top) & (rows < top + side))[:, :, None] & (
            (columns >= left) & (columns < left + side)
        )[:, None, :]
        shift = torch.where(drawn[:, 2:] < 0.5, -1.0, 1.0) * whole_eps(self.eps)
        painted = scene.levels + shift[:, :, None, None]
        return torch.where(inside[:, None], painted, levels)
