"""The Square attack: score-based random search (Andriushchenko et al. 2020)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from services.worker.attacks import square_l2
from services.worker.attacks.ball import Ball, Norm, lengths, whole_eps
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
AREA = 0.8  # also for L2, as in AutoAttack: with few queries the paper's .1 fools far fewer


@dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """Change one square a query and keep it when the margin falls. No gradients.

    L-infinity: starts from vertical stripes of ``±eps`` (units of 1/255), and a square is set to
    ``±eps``. L2: starts from bumps everywhere, and a square's norm moves into a bump elsewhere.
    ``area`` is the squares' share of the image in the beginning; ``queries`` is the
    budget.
    """

    name = "square"

    eps: float = 8.0
    norm: Norm = "linf"
    queries: int = 1000
    area: float = AREA

    @property
    def total_steps(self) -> int:
        return self.queries

    def side(self, number: int, height: int, width: int) -> int:
        """Return the side of the square of query ``number``."""
        scaled = int(number / self.queries * 10_000)
        divisor = [part for after, part in SCHEDULE if scaled > after][-1:] or [1]
        side = round(math.sqrt(self.area / divisor[0] * height * width))
        if self.norm == "l2":
            side = max(side, square_l2.SMALLEST)
            side += side % 2 == 0
        return min(max(side, 1), height, width)

    def begin(self, scene: Scene) -> State:
        margin = torch.full((len(scene.rows),), float("inf"), device=scene.levels.device)
        return {"levels": scene.levels.clone(), "margin": margin}

    def step(self, scene: Scene, state: State, number: int) -> Tensor:
        ball = scene.derived(Ball, lambda: Ball(scene, eps=self.eps, norm=self.norm))
        propose = self._stripes if self.norm == "linf" else self._bumps
        candidate = ball.project(propose(scene, state["levels"], number))
        shown = ball.grid(candidate)
        margin = scene.criterion.margin(scene.ask(shown))
        better = margin < state["margin"]
        state["levels"] = torch.where(better[:, None, None, None], candidate, state["levels"])
        state["margin"] = torch.where(better, margin, state["margin"])
        met, known = scene.met(shown, margin)
        scene.offer(shown, met, margin, known=known)
        return met

    def _stripes(self, scene: Scene, levels: Tensor, number: int) -> Tensor:
        """Start from stripes; then set a square of the best image to ``±eps``."""
        if number == 0:
            signs = scene.random(0, 3, 1, levels.shape[3]).sub_(0.5).sign()
            striped = scene.levels + whole_eps(self.eps) * signs
            return striped.contiguous(memory_format=torch.channels_last)
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
        inside = (inside & scene.allowed)[:, None]
        shift = torch.where(drawn[:, 2:] < 0.5, -1.0, 1.0)[:, :, None, None] * whole_eps(self.eps)
        painted = (scene.levels + shift).clamp_(0, 255)
        # A square that is there already would waste a query: the opposite one changes something.
        is_new = ((painted != levels) & inside).flatten(1).any(1)[:, None, None, None]
        painted = torch.where(is_new, painted, (scene.levels - shift).clamp_(0, 255))
        changed = torch.where(inside, painted, levels)
        return changed.contiguous(memory_format=torch.channels_last)

    def _bumps(self, scene: Scene, levels: Tensor, number: int) -> Tensor:
        """Start from bumps; then move the norm of a square of the best image into another."""
        height, width = levels.shape[2:]
        if number == 0:
            drawn = scene.random(0, 3, height, width)
            change = square_l2.first_bumps(drawn, height=height, width=width)
        else:
            side = self.side(number, height, width)
            change = square_l2.moved(
                levels - scene.levels, scene.random(number, 8), side=side, eps=self.eps
            )
        change = change * scene.allowed[:, None]
        # The whole budget is spent; what leaves 0..255 is cut off after that.
        change = change * (self.eps / lengths(change).clamp(min=square_l2.TINY))
        return (scene.levels + change).contiguous(memory_format=torch.channels_last)
