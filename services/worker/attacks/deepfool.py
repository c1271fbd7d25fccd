"""DeepFool (Moosavi-Dezfooli, Fawzi and Frossard 2016), L2."""

from dataclasses import dataclass

import torch
from torch import Tensor

from services.worker.attacks.base import Attack, State
from services.worker.attacks.minimal import bisect, offer_smallest
from services.worker.attacks.scene import Loss, Scene


@dataclass(frozen=True, kw_only=True)
class DeepFool(Attack):
    """Step to the nearest linearized border until it is crossed, then ``overshoot`` a little.

    Of many classes the ``candidates`` likeliest are looked at. Linearized at the image rounded to
    8 bits, so that crossing the border is crossing it in what is delivered; ``refine`` queries
    then shorten the perturbation.
    """

    name = "deepfool"
    uses_gradients = True

    steps: int = 50
    overshoot: float = 0.02
    candidates: int = 10
    refine: int = 8

    @property
    def total_steps(self) -> int:
        return self.steps + 1

    def begin(self, scene: Scene) -> State:
        return {"change": torch.zeros_like(scene.levels)}

    def step(self, scene: Scene, state: State, number: int) -> Tensor:
        ahead = scene.levels + (1 + self.overshoot) * state["change"]
        shown = ahead.clamp(0, 255).round()
        if number == self.steps:
            margin = scene.criterion.margin(scene.ask(shown))
        else:
            margin, move = self._nearest(scene, shown)
            state["change"] += move * scene.allowed[:, None]
        met = margin < 0
        offer_smallest(scene, shown, margin)
        if bool(met.any()) and self.refine:
            bisect(scene, shown[met], rows=met.nonzero()[:, 0], rounds=self.refine)
        return met

    def _nearest(self, scene: Scene, shown: Tensor) -> tuple[Tensor, Tensor]:
        """Return margins, and the step in levels to the nearest of the linearized borders."""
        criterion = scene.criterion
        if criterion.targeted:
            logits, slope = scene.gradient(
                shown, lambda out, rows: -criterion.take(rows).margin(out)
            )
            margin = criterion.margin(logits)
            return margin, _to_border(margin, slope, scene.allowed)[1]
        logits = scene.ask(shown)
        own = criterion.classes[:, None]
        others = logits.scatter(1, own, float("-inf"))
        rivals = others.topk(min(self.candidates, logits.shape[1] - 1), 1).indices
        shortest = torch.full_like(logits[:, 0], float("inf"))
        move = torch.zeros_like(shown)
        for rival in rivals.unbind(1):
            _, slope = scene.gradient(shown, _lead(rival, criterion.classes))
            gap = logits.gather(1, own)[:, 0] - logits.gather(1, rival[:, None])[:, 0]
            length, step = _to_border(gap, slope, scene.allowed)
            nearer = length < shortest
            shortest = torch.where(nearer, length, shortest)
            move = torch.where(nearer[:, None, None, None], step, move)
        return criterion.margin(logits), move


def _lead(rival: Tensor, own: Tensor) -> Loss:
    def loss(logits: Tensor, rows: Tensor) -> Tensor:
        picked = logits.gather(1, torch.stack([rival[rows], own[rows]], 1))
        return picked[:, 0] - picked[:, 1]

    return loss


def _to_border(gap: Tensor, slope: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far the border is (in [0, 1]) and the step to it (in levels)."""
    slope = slope * allowed[:, None]
    norm = torch.linalg.vector_norm(slope, dim=(1, 2, 3)).clamp(min=1e-12)
    # The paper's small addition: a step of nothing would stay on the border.
    length = (gap.abs() + 1e-4) / norm
    return length, slope * (255 * length / norm)[:, None, None, None]
