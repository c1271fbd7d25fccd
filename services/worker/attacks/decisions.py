"""Where decision-based attacks start: an image that already meets the criterion."""

import torch
from torch import Tensor
from torch.nn import functional

from services.worker.attacks.minimal import offer_smallest
from services.worker.attacks.scene import Scene

TRIES = 60
COARSE = 4  # cells a side of the coarse noise


def starting_points(scene: Scene, *, within: float | None) -> tuple[Tensor, Tensor]:
    """Return images ``(A, 3, H, W)`` in whole levels and which of them meet the criterion.

    Tried in turn: fine noise, one color, coarse noise. One query a try and image.
    """
    start = scene.levels.clone()
    met = torch.zeros(len(start), dtype=torch.bool, device=start.device)
    height, width = start.shape[2:]
    for number in range(TRIES):
        size = ((height, width), (1, 1), (COARSE, COARSE))[number % 3]
        noise = scene.random(number, 3, *size, purpose=7)
        spread = functional.interpolate(noise, (height, width)) * 255
        candidate = torch.where(scene.allowed[:, None], spread.round(), scene.levels)
        rows = (~met).nonzero()[:, 0]
        margin = torch.ones(len(start), device=start.device)
        answer = scene.ask(candidate[rows], rows)
        margin[rows] = scene.criterion.take(rows).margin(answer)
        fooled = margin < 0
        start = torch.where(fooled[:, None, None, None], candidate, start)
        offer_smallest(scene, start, margin, within=within)
        met |= fooled
        if bool(met.all()):
            break
    return start, met
