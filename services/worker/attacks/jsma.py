"""The Jacobian saliency map attack, JSMA (Papernot et al. 2016)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from services.worker.attacks.base import Attack, State
from services.worker.attacks.scene import Scene

CANDIDATES = 128  # channel values that pairs are made of: the best by themselves


@dataclass(frozen=True, kw_only=True)
class JSMA(Attack):
    """Drive two channel values a step to their limit, each up or down as helps more.

    The saliency of a pair is ``(a_p + a_q) |b_p + b_q|`` where the target logit's change a rises
    and the other logits' b falls; the ``CANDIDATES`` best values are paired. Untargeted, the
    target is the strongest other class of the original. ``max_pixels`` (from 2) bounds the
    changed pixels; a value changes once.
    """

    name = "jsma"
    uses_gradients = True

    max_pixels: int = 40

    def __post_init__(self) -> None:
        if self.max_pixels < 2:
            raise ValueError("pairs of values need at least two pixels")

    @property
    def total_steps(self) -> int:
        # A pixel has three values, a step changes two, and the last image is to be checked.
        return -(-3 * self.max_pixels // 2) + 1

    def begin(self, scene: Scene) -> State:
        goal = scene.criterion.classes
        if not scene.criterion.targeted:
            logits = scene.ask(scene.levels)
            goal = logits.scatter(1, goal[:, None], float("-inf")).argmax(1)
        return {"levels": scene.levels.clone(), "goal": goal}

    def step(self, scene: Scene, state: State, number: int) -> Tensor:
        del number
        levels, goal = state["levels"], state["goal"]
        logits, rise = scene.gradient(
            levels, lambda out, rows: out.gather(1, goal[rows, None])[:, 0]
        )
        _, total = scene.gradient(levels, lambda out, _: out.sum(1))
        margin = scene.criterion.margin(logits)
        scene.offer(levels, margin < 0, margin)

        change = levels - scene.levels
        changed = (change != 0).any(1)
        room = self.max_pixels - changed.flatten(1).sum(1) >= 2
        usable = scene.allowed & (changed | room[:, None, None])
        pair, upward, useful = _best_pair(levels, rise, total - rise, usable[:, None], change == 0)
        flat = levels.flatten(1).scatter(1, pair, torch.where(upward, 255.0, 0.0))
        going = useful & (margin >= 0)
        moved = flat.view(levels.shape)
        state["levels"] = torch.where(going[:, None, None, None], moved, levels)
        return ~going


def _best_pair(
    levels: Tensor, rise: Tensor, fall: Tensor, usable: Tensor, fresh: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return flat indices ``(A, 2)``, whether each goes up, and whether the pair helps ``(A,)``."""
    upward = rise > fall
    sign = torch.where(upward, 1.0, -1.0)
    rise, fall = (sign * rise).flatten(1), (sign * fall).flatten(1)
    movable = torch.where(upward, levels < 255, levels > 0) & usable & fresh
    worth = torch.where(movable.flatten(1), rise - fall, -torch.inf)
    best = worth.topk(min(CANDIDATES, worth.shape[1]), 1).indices
    a, b = rise.gather(1, best), fall.gather(1, best)
    a, b = a[:, :, None] + a[:, None, :], b[:, :, None] + b[:, None, :]
    open_ = worth.gather(1, best) > -torch.inf
    valid = (a > 0) & (b < 0) & open_[:, :, None] & open_[:, None, :]
    valid &= ~torch.eye(best.shape[1], dtype=torch.bool, device=best.device)
    saliency = torch.where(valid, -a * b, -1.0).flatten(1)
    top, place = saliency.max(1)
    pair = best.gather(1, torch.stack([place // best.shape[1], place % best.shape[1]], 1))
    return pair, upward.flatten(1).gather(1, pair), top >= 0
