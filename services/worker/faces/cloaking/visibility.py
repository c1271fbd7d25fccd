"""Where on a face a change may go, and how far it shows there."""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from services.worker.faces.alignment import FRAME, INNER, MARGIN

FEATHER = 8.0
BUSY = 10 / 255  # a local contrast that hides a change of the full eps
WINDOW = 7


@cache
def feather() -> Tensor:
    """Return the share of the cloak at each place of the frame, ``(1, 1, 160, 160)``.

    1 on the inner crop that recognizers look at, falling to 0 within a few pixels around it.
    """
    places = torch.arange(FRAME).float()
    outside = (MARGIN - places).clamp(min=0) + (places - (MARGIN + INNER - 1)).clamp(min=0)
    distance = (outside[:, None].square() + outside[None].square()).sqrt()
    return (1 - distance / FEATHER).clamp(0, 1)[None, None]


def visibility(frames: Tensor, perceptual: float) -> Tensor:
    """Return how much of eps each place of frames ``(N, 3, 160, 160)`` takes, ``(N, 1, 160, 160)``.

    Texture hides changes that smooth skin shows: a place takes ``1 - perceptual`` of eps where
    nothing varies around it, and more as its local contrast grows (contrast masking).
    """
    gray = frames.mean(1, keepdim=True)
    pad = WINDOW // 2
    around = functional.pad(gray, (pad,) * 4, mode="replicate")
    mean = functional.avg_pool2d(around, WINDOW, 1)
    square = functional.avg_pool2d(around.square(), WINDOW, 1)
    contrast = (square - mean.square()).clamp(min=0).sqrt()
    busy = contrast / (contrast + BUSY / 2)
    return feather().to(frames) * (1 - perceptual * (1 - busy))
