"""Terms that keep a design smooth, printable and unlike the others."""

from functools import cache

import torch
from torch import Tensor

FLOOR = 1e-8


def total_variation(designs: Tensor) -> Tensor:
    """Mean absolute difference of neighboring pixels, ``(N,)``, of designs ``(N, 3, h, w)``."""
    down = (designs[..., 1:, :] - designs[..., :-1, :]).abs().mean((1, 2, 3))
    across = (designs[..., 1:] - designs[..., :-1]).abs().mean((1, 2, 3))
    return down + across


@cache
def printable_colors() -> Tensor:
    """Return 30 colors that office printers reach, RGB in [0, 1], ``(30, 3)``.

    Evenly spaced inks: cyan, magenta and yellow at 0, 45 and 90 % (27 mixtures), each laid on paper
    of 95 % white, and three grays of black ink. Mixtures multiply what paper reflects, as inks do;
    a full ink still reflects 10 %.
    """
    levels = torch.tensor([0.0, 0.45, 0.9])
    inks = torch.cartesian_prod(levels, levels, levels)
    mixtures = 0.95 * (1 - 0.9 * inks)
    grays = torch.tensor([0.12, 0.35, 0.6])[:, None].expand(3, 3)
    return torch.cat([mixtures, grays])


def non_printability(designs: Tensor, colors: Tensor | None = None) -> Tensor:
    """Mean distance of each pixel to the printable colors, ``(N,)``.

    The score of Sharif et al. (2016) is the product of the distances to all colors, which 30 of
    them drive to nothing; the distance to the nearest one is what it stands for.
    """
    palette = (printable_colors() if colors is None else colors).to(designs)
    pixels = designs.flatten(2).transpose(1, 2)
    with torch.no_grad():
        # |pixel - color|², less the pixel's own square, which all colors share
        apart = palette.square().sum(1) - 2 * pixels @ palette.T
        nearest = palette[apart.argmin(2)]
    return ((pixels - nearest).square().sum(2) + FLOOR).sqrt().mean(1)


def likeness(designs: Tensor) -> Tensor:
    """Mean cosine similarity of each pair of designs, centered; 0 for one design alone.

    Minimized, it keeps a generator from drawing the same design for every latent vector.
    """
    if len(designs) < 2:
        return designs.new_zeros(())
    flat = designs.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    unit = flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-6)
    similar = unit @ unit.T
    count = len(designs)
    others: Tensor = similar.sum() - similar.diagonal().sum()
    return others / (count * (count - 1))
