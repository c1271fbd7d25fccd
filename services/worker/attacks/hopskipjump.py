"""HopSkipJump: decisions only, with an estimated gradient (Chen, Jordan and Wainwright 2020)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from services.worker.attacks.base import Attack, State
from services.worker.attacks.decisions import starting_points
from services.worker.attacks.minimal import bisect, distances
from services.worker.attacks.scene import Scene

HALVINGS = 10  # of the step, before it is given up


@dataclass(frozen=True, kw_only=True)
class HopSkipJump(Attack):
    """Estimate the border's normal from decisions, step along it, return to the border (L2).

    Iteration t probes ``probes * sqrt(t)`` images around the border image. Probes are whole
    levels, too: their size is at least one level a value. ``within`` as in the boundary attack;
    ``queries`` is never exceeded.
    """

    name = "hopskipjump"

    queries: int = 5000
    probes: int = 100
    most_probes: int = 1000
    refine: int = 8
    within: float | None = None

    @property
    def total_steps(self) -> int:
        fixed = HALVINGS + self.refine
        step, spent = 0, 0
        while spent < self.queries:
            step += 1
            spent += min(self._probes(step), self.most_probes) + min(fixed, 2)
        return step

    def _probes(self, iteration: int) -> int:
        return min(int(self.probes * math.sqrt(iteration)), self.most_probes)

    def begin(self, scene: Scene) -> State:
        start, met = starting_points(scene, within=self.within)
        rows = met.nonzero()[:, 0]
        if len(rows):
            start[rows] = self._to_border(scene, start[rows], rows)
        return {"levels": start, "started": met}

    def _to_border(self, scene: Scene, levels: Tensor, rows: Tensor) -> Tensor:
        return bisect(scene, levels, rows=rows, rounds=self.refine, within=self.within)

    def step(self, scene: Scene, state: State, number: int) -> Tensor:
        levels, started = state["levels"], state["started"]
        norm = distances(scene, levels)
        left = self.queries - scene.tally.queries[scene.rows].to(levels.device)
        left = left - HALVINGS - self.refine
        near = started & (norm <= (0 if self.within is None else self.within))
        finished = ~started | (left < 2) | near
        rows = (~finished).nonzero()[:, 0]
        if not len(rows):
            return finished
        probes = left[rows].clamp(max=self._probes(number + 1))
        normal = self._normal(scene, levels, rows, probes, number)
        stepped, moved = self._jump(scene, levels[rows], rows, normal, norm[rows], number)
        if bool(moved.any()):
            at = rows[moved]
            border = self._to_border(scene, stepped[moved], at)
            nearer = distances(scene, border, at) < norm[at]
            state["levels"][at] = torch.where(nearer[:, None, None, None], border, levels[at])
        return finished

    def _normal(
        self, scene: Scene, levels: Tensor, rows: Tensor, probes: Tensor, number: int
    ) -> Tensor:
        """Estimate the direction ``(len(rows), 3, H, W)`` into the wanted side, of length 1."""
        values = levels[0].numel()
        found = []
        shape = tuple(levels.shape[1:])
        for row, count in zip(rows.tolist(), probes.tolist(), strict=True):
            stream = scene.randomness.stream(scene.indices[row], number, purpose=3)
            drawn = stream.standard_normal((count, *shape), dtype="float32")
            noise = torch.from_numpy(drawn).to(levels.device) * scene.allowed[row]
            size = torch.linalg.vector_norm(noise, dim=(1, 2, 3), keepdim=True).clamp(min=1e-9)
            reach = max(math.sqrt(values), 0.01 * float(distances(scene, levels)[row]))
            probe = (levels[row] + reach * noise / size).clamp(0, 255).round()
            change = probe - levels[row]
            owners = torch.full((count,), row, device=levels.device)
            margin = scene.criterion.take(owners).margin(scene.ask(probe, owners))
            vote = torch.where(margin < 0, 1.0, -1.0)
            # All alike, the votes themselves are the estimate; else their mean is no news.
            vote = vote if bool((vote == vote[0]).all()) else vote - vote.mean()
            found.append((vote[:, None, None, None] * change).mean(0))
        normal = torch.stack(found)
        size = torch.linalg.vector_norm(normal, dim=(1, 2, 3), keepdim=True)
        unit: Tensor = normal / size.clamp(min=1e-12)
        return unit

    def _jump(
        self,
        scene: Scene,
        levels: Tensor,
        rows: Tensor,
        normal: Tensor,
        norm: Tensor,
        number: int,
    ) -> tuple[Tensor, Tensor]:
        """Step along the normal, half as far after each failure; also return which arrived."""
        length = norm / math.sqrt(number + 1)
        arrived = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        result = levels.clone()
        for _ in range(HALVINGS):
            trying = (~arrived).nonzero()[:, 0]
            if not len(trying):
                break
            step = length[trying][:, None, None, None] * normal[trying]
            candidate = (levels[trying] + step).clamp(0, 255).round()
            owners = rows[trying]
            met = scene.criterion.take(owners).margin(scene.ask(candidate, owners)) < 0
            result[trying[met]] = candidate[met]
            arrived[trying[met]] = True
            length[trying[~met]] /= 2
        return result, arrived
