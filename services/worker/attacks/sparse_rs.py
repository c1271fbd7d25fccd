"""Sparse-RS: few-pixel random search (Croce et al. 2022)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from services.worker.attacks.base import Attack, State
from services.worker.attacks.canvas import paint
from services.worker.attacks.scene import Scene

# After so many of 10,000 queries (scaled to the budget), the share of pixels that move is divided.
SCHEDULE = (
    (0, 2),
    (50, 4),
    (200, 5),
    (500, 6),
    (1000, 8),
    (2000, 10),
    (4000, 12),
    (6000, 15),
    (8000, 20),
)


@dataclass(frozen=True, kw_only=True)
class SparseRS(Attack):
    """Keep ``pixels`` pixels at corner colors; move some of them at a time, keep what helps.

    ``alpha`` is the share of the pixels that move in the beginning; the margin is minimized.
    """

    name = "sparse_rs"

    pixels: int = 5
    queries: int = 10_000
    alpha: float = 0.8
    early_stop: bool = True

    @property
    def total_steps(self) -> int:
        return self.queries

    def moving(self, number: int) -> int:
        """Return how many pixels move at query ``number``."""
        scaled = int(number / self.queries * 10_000)
        divisor = [part for after, part in SCHEDULE if scaled > after][-1:] or [1]
        return max(1, int(self.alpha / divisor[0] * self.pixels))

    def begin(self, scene: Scene) -> State:
        if int(scene.space.counts.min()) < self.pixels:
            raise ValueError(f"a region has fewer than {self.pixels} pixels")
        none = torch.empty(len(scene.rows), 0, dtype=torch.int64, device=scene.levels.device)
        ranks = _new_ranks(none, scene.random(0, self.pixels), scene.space.counts)
        margin = torch.full((len(ranks),), float("inf"), device=ranks.device)
        return {"ranks": ranks, "colors": _corners(scene, 0, self.pixels), "margin": margin}

    def step(self, scene: Scene, state: State, number: int) -> Tensor:
        ranks, colors = state["ranks"], state["colors"]
        if number:
            count = self.moving(number)
            moved = scene.random(number, self.pixels).argsort(1)[:, :count]
            fresh = _new_ranks(ranks, scene.random(number, count, purpose=1), scene.space.counts)
            # Where the region has no other pixel, the pixel stays and takes a new color.
            fresh = torch.where(fresh < 0, ranks.gather(1, moved), fresh)
            ranks = ranks.scatter(1, moved, fresh)
            spread = moved[:, :, None].expand(-1, -1, 3)
            colors = colors.scatter(1, spread, _corners(scene, number, count))
        positions = scene.space.order.gather(1, ranks)
        owners = torch.arange(len(ranks), device=ranks.device)
        margin = scene.criterion.margin(scene.ask_pixels(owners, positions, colors))
        better = margin < state["margin"]
        state["ranks"] = torch.where(better[:, None], ranks, state["ranks"])
        state["colors"] = torch.where(better[:, None, None], colors, state["colors"])
        state["margin"] = torch.where(better, margin, state["margin"])
        fooled = torch.zeros_like(better)
        if bool(better.any()):
            image = paint(scene.levels, positions, colors)
            fooled, known = scene.met(image, margin)
            scene.offer(image, fooled, margin, known=known)
        return fooled if self.early_stop else torch.zeros_like(fooled)


def _corners(scene: Scene, number: int, count: int) -> Tensor:
    """Draw colors ``(A, count, 3)`` from the corners of the color cube."""
    return (scene.random(number, count, 3, purpose=2) < 0.5).float() * 255


def _new_ranks(held: Tensor, drawn: Tensor, counts: Tensor) -> Tensor:
    """Draw distinct ranks ``(A, m)`` below ``counts`` that are not ``held``; -1 where none is left.

    ``drawn`` are uniform numbers. A number among the free ranks is moved up by the taken ones
    that lie below it.
    """
    fresh = []
    for column in drawn.unbind(1):
        taken = held.sort(1).values
        free = counts - taken.shape[1]
        rank = (column * free).long()
        below = taken - torch.arange(taken.shape[1], device=taken.device) <= rank[:, None]
        rank = torch.where(free > 0, rank + below.sum(1), -1)
        fresh.append(rank)
        held = torch.cat([held, rank[:, None].clamp(min=0)], 1)
    return torch.stack(fresh, 1)
