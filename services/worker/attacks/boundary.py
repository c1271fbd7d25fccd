"""The boundary attack: decisions only (Brendel, Rauber and Bethge 2018)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from services.worker.attacks.base import Attack, State
from services.worker.attacks.decisions import starting_points
from services.worker.attacks.minimal import bisect, distances, offer_smallest
from services.worker.attacks.scene import Scene

WINDOW = 10  # steps between two looks at the shares of successes
ADAPT = 1.5


@dataclass(frozen=True, kw_only=True)
class Boundary(Attack):
    """Walk along the border on spheres around the original, nearing it step by step (L2).

    A step asks twice: after moving on the sphere (``sphere``, relative to the distance), and after
    moving toward the original (``source``). Both adapt. An image that finds no starting point
    leaves without success. ``within`` (L2, units of 1/255) is when an image counts as fooled and
    leaves; None keeps on nearing until ``queries`` are spent.
    """

    name = "boundary"

    queries: int = 5000
    sphere: float = 0.05
    source: float = 0.05
    within: float | None = None
    refine: int = 8

    @property
    def total_steps(self) -> int:
        return self.queries // 2

    def begin(self, scene: Scene) -> State:
        start, met = starting_points(scene, within=self.within)
        rows = met.nonzero()[:, 0]
        if len(rows):
            start[rows] = bisect(
                scene, start[rows], rows=rows, rounds=self.refine, within=self.within
            )
        count = torch.zeros(len(start), device=start.device)
        return {
            "levels": start,
            "started": met,
            "sphere": count + self.sphere,
            "source": count + self.source,
            "sphere_wins": count.clone(),
            "source_wins": count.clone(),
        }

    def step(self, scene: Scene, state: State, number: int) -> Tensor:
        levels, started = state["levels"], state["started"]
        norm = distances(scene, levels)
        spent = scene.tally.queries[scene.rows].to(levels.device) + 2 > self.queries
        near = started & (norm <= (0 if self.within is None else self.within))
        finished = ~started | spent | near
        rows = (~finished).nonzero()[:, 0]
        if not len(rows):
            return finished

        on_sphere = self._around(scene, state, norm, number)
        toward = scene.levels - on_sphere
        nearer = on_sphere + state["source"][:, None, None, None] * toward
        side, _ = self._decide(scene, on_sphere, rows)
        inward, whole = self._decide(scene, nearer, rows)
        margin = torch.where(inward, -1.0, 1.0)
        offer_smallest(scene, whole, margin, within=self.within)
        better = inward & (distances(scene, whole) < norm)
        state["levels"] = torch.where(better[:, None, None, None], whole, levels)
        state["sphere_wins"] += side
        state["source_wins"] += better
        if (number + 1) % WINDOW == 0:
            self._adapt(state)
        return finished

    def _decide(self, scene: Scene, levels: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Ask about some rows; return which of all are met (bool ``(A,)``), and whole levels."""
        whole = levels.clamp(0, 255).round()
        met = torch.zeros(len(levels), dtype=torch.bool, device=levels.device)
        met[rows] = scene.criterion.take(rows).margin(scene.ask(whole[rows], rows)) < 0
        return met, whole

    def _around(self, scene: Scene, state: State, norm: Tensor, number: int) -> Tensor:
        """Move on the sphere: orthogonal to the way to the original, back to its radius."""
        shape = tuple(scene.levels.shape[1:])
        noise = scene.normal(number, *shape).contiguous(memory_format=torch.channels_last)
        noise *= scene.allowed[:, None]
        way = state["levels"] - scene.levels
        wide = norm.clamp(min=1e-9)[:, None, None, None]
        noise -= (noise * way).sum((1, 2, 3), keepdim=True) / wide**2 * way
        size = torch.linalg.vector_norm(noise, dim=(1, 2, 3), keepdim=True).clamp(min=1e-9)
        moved = way + state["sphere"][:, None, None, None] * wide * noise / size
        length = torch.linalg.vector_norm(moved, dim=(1, 2, 3), keepdim=True).clamp(min=1e-9)
        back: Tensor = scene.levels + moved / length * wide
        return back

    def _adapt(self, state: State) -> None:
        for step, wins, low, high in (
            ("sphere", "sphere_wins", 0.2, 0.5),
            ("source", "source_wins", 0.1, 0.3),
        ):
            share = state[wins] / WINDOW
            grown = torch.where(share > high, state[step] * ADAPT, state[step])
            state[step] = torch.where(share < low, grown / ADAPT, grown).clamp(1e-4, 0.5)
            state[wins] = torch.zeros_like(state[wins])
