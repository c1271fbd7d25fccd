"""The few-pixel attack by differential evolution (Su et al. 2019; Park et al. 2022)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from services.worker.attacks.base import Attack, State
from services.worker.attacks.canvas import paint
from services.worker.attacks.scene import Scene

COORDINATES = 5  # x, y, red, green, blue


@dataclass(frozen=True, kw_only=True)
class DifferentialEvolution(Attack):
    """Change ``pixels`` pixels of each image; evolve positions and colors without gradients.

    The population starts with uniform positions and colors from N(128, 127). A child is
    ``r1 + F (r2 - r3)`` with distinct members r1, r2, r3 and no crossover (``rand/1``; with
    ``best/1`` r1 is the best member) and replaces its parent when it lowers the log-odds of the
    true class (raises those of the target). ``dither`` draws F from [.5, 1) for each image and
    generation. Positions that leave the region are mirrored at its border, colors are clipped to
    0..255, and what is shown to the model are whole pixels and levels; ``lattice`` restricts each
    channel to the given levels. ``remember`` does not ask again about a one-pixel candidate that
    was asked before (about a third of those of ``best/1``).
    """

    name = "de"

    pixels: int = 1
    population: int = 100
    generations: int = 100
    strategy: Literal["rand/1", "best/1"] = "rand/1"
    weight: float = 0.5
    dither: bool = False
    lattice: tuple[int, ...] | None = None
    early_stop: bool = True
    remember: bool = False

    def __post_init__(self) -> None:
        if self.pixels < 1 or self.population < 4 or self.generations < 0:
            raise ValueError("evolution needs a pixel, four members and no negative generations")
        if self.remember and self.pixels != 1:
            raise ValueError("only one-pixel candidates repeat often enough to remember them")

    @property
    def total_steps(self) -> int:
        return self.generations + 1

    def begin(self, scene: Scene) -> State:
        shape = (self.population, self.pixels, COORDINATES)
        members = scene.normal(0, *shape).mul_(127).add_(128).clamp_(0, 255)
        rank = (scene.random(0, *shape[:2], purpose=1) * scene.space.counts[:, None, None]).long()
        places = scene.space.order.gather(1, rank.flatten(1)).view(rank.shape)
        width = scene.levels.shape[3]
        members[..., 0], members[..., 1] = places % width, places // width
        # Children are read by their floor: members start anywhere within their pixel.
        members[..., :2] += scene.random(0, *shape[:2], 2, purpose=2)
        score = torch.full(shape[:1], float("inf"), device=members.device)
        state = {"members": members, "score": score.expand(len(members), -1).clone()}
        if self.remember:
            empty = torch.empty(len(members), 0, device=members.device)
            state |= {"asked": empty.long(), "answers": empty}
        return state

    def step(self, scene: Scene, state: State, number: int) -> Tensor:
        members = state["members"]
        children = members if number == 0 else self._children(scene, state, number)
        positions, colors = self._pixels(scene, children)
        before = scene.tally.queries[scene.rows].to(positions.device)
        score, margin, asked = self._ask(scene, state, positions, colors)
        better = score < state["score"]
        state["members"] = torch.where(better[:, :, None, None], children, members)
        state["score"] = torch.where(better, score, state["score"])

        met = margin < 0
        best = score.where(~met, score - 1e6).argmin(1)
        every = torch.arange(len(best), device=best.device)
        image = paint(scene.levels, positions[every, best], colors[every, best])
        fooled, known = scene.met(image, margin[every, best])
        earliest = torch.where(met.any(1), met.int().argmax(1), best)
        first = asked.cumsum(1).gather(1, earliest[:, None])[:, 0]
        cost = score[every, best]
        scene.offer(image, fooled, cost, found_at=before + first, known=known)
        return fooled if self.early_stop else torch.zeros_like(fooled)

    def _children(self, scene: Scene, state: State, number: int) -> Tensor:
        members, population = state["members"], self.population
        drawn = scene.random(number, population, 3)
        sizes = torch.tensor([population, population - 1, population - 2], device=drawn.device)
        first, second, third = (drawn * sizes).long().unbind(2)
        if self.strategy == "best/1":
            first = state["score"].argmin(1, keepdim=True).expand_as(first)
        # Skipping those drawn before makes the three distinct.
        second = second + (second >= first)
        lower, upper = torch.minimum(first, second), torch.maximum(first, second)
        third = third + (third >= lower)
        third = third + (third >= upper)
        weight: float | Tensor = self.weight
        if self.dither:
            weight = 0.5 + 0.5 * scene.random(number, 1, 1, 1, purpose=1)
        children = _pick(members, first) + weight * (_pick(members, second) - _pick(members, third))
        return self._inside(scene, children)

    def _inside(self, scene: Scene, children: Tensor) -> Tensor:
        low, high = scene.space.low[:, None, None], scene.space.high[:, None, None]
        places = children[..., :2]
        places = torch.where(places < low, 2 * low - places, places)
        places = torch.where(places >= high, 2 * high - places, places)
        children[..., :2] = torch.minimum(torch.maximum(places, low), high - 1e-3)
        children[..., 2:].clamp_(0, 255)
        return children

    def _pixels(self, scene: Scene, members: Tensor) -> tuple[Tensor, Tensor]:
        """Return flat positions ``(A, P, k)`` and whole levels ``(A, P, k, 3)``."""
        places = members[..., :2].long()
        positions = places[..., 1] * scene.levels.shape[3] + places[..., 0]
        if scene.space.nearest is not None:
            positions = scene.space.nearest.gather(1, positions.flatten(1)).view(positions.shape)
        colors = members[..., 2:].floor()
        if self.lattice is not None:
            levels = torch.tensor(sorted(self.lattice), dtype=torch.float32, device=colors.device)
            colors = levels[torch.bucketize(colors, (levels[1:] + levels[:-1]) / 2)]
        return positions, colors

    def _ask(
        self, scene: Scene, state: State, positions: Tensor, colors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores, margins and which candidates were asked about, all ``(A, P)``."""
        asked = torch.ones(positions.shape[:2], dtype=torch.bool, device=positions.device)
        score = torch.zeros(asked.shape, device=asked.device)
        if self.remember:
            keys = _keys(positions, colors)
            asked, score = _recall(state, keys)
        # A remembered candidate did not fool the model, or its image would have left.
        margin = torch.ones_like(score)
        owners = asked.nonzero()[:, 0]
        logits = scene.ask_pixels(owners, positions[asked], colors[asked])
        criterion = scene.criterion.take(owners)
        score[asked], margin[asked] = criterion.score(logits), criterion.margin(logits)
        if self.remember:
            state["asked"], order = torch.cat([state["asked"], keys], 1).sort(1)
            state["answers"] = torch.cat([state["answers"], score], 1).gather(1, order)
        return score, margin, asked


def _pick(members: Tensor, which: Tensor) -> Tensor:
    return members.gather(1, which[:, :, None, None].expand(-1, -1, *members.shape[2:]))


def _keys(positions: Tensor, colors: Tensor) -> Tensor:
    """Number one-pixel candidates ``(A, P)``, equal ones alike."""
    red, green, blue = colors[:, :, 0].long().unbind(2)
    return (positions[:, :, 0] << 24) | (red << 16) | (green << 8) | blue


def _recall(state: State, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return which candidates are new, and the scores of those that are not."""
    known, answers = state["asked"], state["answers"]
    if known.shape[1] == 0:
        return torch.ones_like(keys, dtype=torch.bool), torch.zeros(keys.shape, device=keys.device)
    place = torch.searchsorted(known, keys).clamp(max=known.shape[1] - 1)
    return known.gather(1, place) != keys, answers.gather(1, place)
