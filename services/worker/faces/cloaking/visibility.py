"""Where on a face a change may go, and how far it shows there."""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from services.worker.faces.alignment import FRAME, INNER, MARGIN

FEATHER = 8.0
BUSY = 10 / 255  # a local contrast that hides a change of the full eps
WINDOW = 7
SIMILAR_WINDOW = 5  # its samples' spread is that of the Gaussian of sigma 1.5 in Wang et al. 2004
SIMILAR_EVERY = 2  # every second window along and across: a quarter of them says the same
SIMILAR_FLOORS = (0.01**2, 0.03**2)  # C1 and C2 there


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


def likeness(first: Tensor, second: Tensor) -> Tensor:
    """Return the structural similarity of images ``(N, 3, H, W)`` in [0, 1], ``(N,)``.

    Wang et al. 2004, mean of the color channels, differentiable; in square windows, which take a
    fraction of the time of Gaussian ones and differ by little: for a search, not for a report.
    """

    def around(maps: Tensor) -> Tensor:
        return functional.avg_pool2d(maps, SIMILAR_WINDOW, SIMILAR_EVERY)

    light, contrast = SIMILAR_FLOORS
    mean, other = around(first), around(second)
    spread = around(first.square()) - mean.square() + around(second.square()) - other.square()
    shared = around(first * second) - mean * other
    alike = (2 * mean * other + light) / (mean.square() + other.square() + light)
    return (alike * (2 * shared + contrast) / (spread + contrast)).mean((1, 2, 3))
