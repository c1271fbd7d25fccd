"""Where on a face a change may go, and how far it shows there."""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from services.worker.faces.alignment import FRAME, INNER, MARGIN

FEATHER = 11.0
COLORFUL = 0.045  # how CIEDE2000 weighs a change of chroma down by the chroma that is there
USUAL_CHROMA = 20.0  # of skin
# Centers and radii in the frame of what is spared: people look at eyes and teeth first.
SPARED = ((62.3, 75.7, 9.0, 6.0), (97.5, 75.5, 9.0, 6.0), (80.1, 117.0, 13.0, 6.0))
SPARING = 0.25
BUSY = 10 / 255  # a local contrast that hides a change of the full eps
WINDOW = 7
SIMILAR_WINDOW = 5  # its samples' spread is that of the Gaussian of sigma 1.5 in Wang et al. 2004
SIMILAR_EVERY = 2  # every second window along and across: a quarter of them says the same
SIMILAR_FLOORS = (0.01**2, 0.03**2)  # C1 and C2 there


@cache
def feather() -> Tensor:
    """Return the share of the cloak at each place of the frame, ``(1, 1, 160, 160)``.

    1 on the inner crop that recognizers look at; around it, it falls to 0 without an edge.
    """
    places = torch.arange(FRAME).float()
    outside = (MARGIN - places).clamp(min=0) + (places - (MARGIN + INNER - 1)).clamp(min=0)
    distance = (outside[:, None].square() + outside[None].square()).sqrt()
    left = (1 - distance / FEATHER).clamp(0, 1)
    return (left.square() * (3 - 2 * left))[None, None]


@cache
def spared() -> Tensor:
    """Return the share of a change that eyes and mouth take, ``(1, 1, 160, 160)``."""
    y, x = torch.meshgrid(torch.arange(FRAME).float(), torch.arange(FRAME).float(), indexing="ij")
    near = torch.zeros(FRAME, FRAME)
    for left, top, width, height in SPARED:
        away = ((x - left) / width).square() + ((y - top) / height).square()
        near = torch.maximum(near, (-away / 2).exp())
    return (1 - SPARING * near)[None, None]


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


def chroma_visibility(lab: Tensor) -> Tensor:
    """Return how far the color of places of CIELAB frames may move, ``(N, 1, 160, 160)``.

    1 where the chroma is that of skin; less on gray hair, teeth and the white of eyes, where the
    same step shows more; more on lips (the weight of CIEDE2000, Sharma et al. 2005).
    """
    chroma = lab[:, 1:].square().sum(1, keepdim=True).sqrt()
    return (1 + COLORFUL * chroma) / (1 + COLORFUL * USUAL_CHROMA)


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
