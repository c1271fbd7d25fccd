"""Exhaustive search of one-pixel changes: the oracle for every other one-pixel attack."""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from services.worker.attacks.base import Attack, State
from services.worker.attacks.canvas import paint
from services.worker.attacks.scene import Scene

CANDIDATES_A_STEP = 256


@dataclass(frozen=True, kw_only=True)
class Exhaustive(Attack):
    """Try every allowed position with every color whose channels are from ``lattice`` (0..255).

    The default lattice is the 8 corners of the color cube. ``most_positions`` is the number of
    positions that the largest region has (to say how long a run is; all pixels of a 32x32 image
    by default).
    """

    name = "exhaustive"

    lattice: tuple[int, ...] = (0, 255)
    most_positions: int = 32 * 32
    early_stop: bool = True

    @property
    def total_steps(self) -> int:
        return -(-self.most_positions * len(self.lattice) ** 3 // CANDIDATES_A_STEP)

    def begin(self, scene: Scene) -> State:
        if int(scene.space.counts.max()) > self.most_positions:
            raise ValueError(f"a region has more than {self.most_positions} positions")
        return {}

    def step(self, scene: Scene, state: State, number: int) -> Tensor:
        del state  # the step's number says which candidates are next
        colors = torch.tensor(list(product(self.lattice, repeat=3)), dtype=torch.float32)
        colors = colors.to(scene.levels.device)
        first = number * CANDIDATES_A_STEP
        candidates = torch.arange(first, first + CANDIDATES_A_STEP, device=colors.device)
        total = scene.space.counts * len(colors)
        valid = candidates[None, :] < total[:, None]
        ranks = (candidates // len(colors)).clamp(max=scene.space.order.shape[1] - 1)
        positions = scene.space.order[:, ranks][..., None]
        shades = colors[candidates % len(colors)].expand(len(total), -1, -1)[:, :, None]

        before = scene.tally.queries[scene.rows].to(total.device)
        owners = valid.nonzero()[:, 0]
        logits = scene.ask_pixels(owners, positions[valid], shades[valid])
        criterion = scene.criterion.take(owners)
        score = torch.full(valid.shape, float("inf"), device=total.device)
        margin = score.clone()
        score[valid], margin[valid] = criterion.score(logits), criterion.margin(logits)

        met = margin < 0
        best = score.where(~met, score - 1e6).argmin(1)
        rows = torch.arange(len(best), device=best.device)
        image = paint(scene.levels, positions[rows, best], shades[rows, best])
        fooled = met.any(1)
        found_at = before + met.int().argmax(1) + 1
        scene.offer(image, fooled, score[rows, best], found_at=found_at)
        done = first + CANDIDATES_A_STEP >= total
        return done | fooled if self.early_stop else done
