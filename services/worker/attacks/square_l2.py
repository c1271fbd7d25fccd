"""The L2 moves of the Square attack (Andriushchenko et al. 2020, section 3.4, algorithm 3).

A perturbation is made of bumps: two pyramids side by side, of opposite signs. A move takes the
norm of one window away and spends it, with what is left of the budget, on a bump in another.
"""

from functools import lru_cache

import torch
from torch import Tensor

TILES = 5  # bumps a side of the first perturbation
SMALLEST = 3
TINY = 1e-10

Window = tuple[Tensor, Tensor, Tensor, Tensor]


@lru_cache(maxsize=64)
def bump(side: int) -> Tensor:
    """Return a bump ``(side, side)`` of norm 1."""
    whole = torch.zeros(side, side)
    half = side // 2
    whole[:half], whole[half:] = pyramid(half, side), -pyramid(side - half, side)
    return _of_norm_one(whole)


def pyramid(height: int, width: int) -> Tensor:
    """Return a pyramid of norm 1 whose steps fall as the squares of their numbers."""
    steps = torch.zeros(height, width)
    top, left = height // 2, width // 2
    for number in range(max(top, left) + 1):
        rows = slice(max(top - number, 0), min(top + number + 1, height))
        columns = slice(max(left - number, 0), min(left + number + 1, width))
        steps[rows, columns] += 1 / (number + 1) ** 2
    return _of_norm_one(steps)


def first_bumps(drawn: Tensor, *, height: int, width: int) -> Tensor:
    """Return images tiled with bumps, ``(A, 3, height, width)``.

    ``drawn`` are uniform numbers ``(A, 3, height, width)``; they choose signs and directions.
    """
    side = max(1, min(height, width) // TILES)
    tiled = torch.zeros_like(drawn)
    upright = bump(side).to(drawn.device)
    down, right = (height % side) // 2, (width % side) // 2
    for top in range(down, height - side + 1, side):
        for left in range(right, width - side + 1, side):
            corner = drawn[:, :, top, left, None, None]
            turned = torch.where(
                drawn[:, :1, top, left, None, None] % 0.5 < 0.25, upright.T, upright
            )
            tiled[:, :, top : top + side, left : left + side] = turned * _signs(corner)
    return tiled


def moved(change: Tensor, drawn: Tensor, *, side: int, eps: float) -> Tensor:
    """Return perturbations ``(A, 3, H, W)`` after one move; their norm is not yet bounded.

    ``drawn`` are eight uniform numbers an image: two windows' corners, signs and a direction.
    """
    here, there = _window(change, drawn[:, :2], side), _window(change, drawn[:, 2:4], side)
    channels = change.shape[1]
    squares = change.square()
    both = torch.zeros_like(change)
    both[here] = 1
    both[there] = 1
    taken = (squares * both).sum((2, 3), keepdim=True)
    left = (eps**2 - squares.sum((1, 2, 3), keepdim=True)).clamp(min=0) / channels

    old = change[here]
    shape = bump(side).to(change.device)
    turned = torch.where(drawn[:, 4, None, None] < 0.5, shape.T, shape)[:, None]
    fresh = turned * _signs(drawn[:, 5:, None, None]) + old / (TINY + _lengths(old))
    fresh = fresh / (TINY + _lengths(fresh)) * (left + taken).sqrt()
    result = change.clone()
    result[there] = 0
    result[here] = fresh
    return result


def _of_norm_one(values: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(values)
    return values / norm.clamp(min=TINY)


def _window(images: Tensor, drawn: Tensor, side: int) -> Window:
    """Return indices of one window an image, whose corner is ``drawn`` ``(A, 2)``."""
    count, channels, height, width = images.shape
    device = images.device
    reach = torch.arange(side, device=device)
    rows = (drawn[:, 0] * (height - side + 1)).long()[:, None] + reach
    columns = (drawn[:, 1] * (width - side + 1)).long()[:, None] + reach
    return (
        torch.arange(count, device=device)[:, None, None, None],
        torch.arange(channels, device=device)[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    )


def _signs(drawn: Tensor) -> Tensor:
    return torch.where(drawn < 0.5, -1.0, 1.0)


def _lengths(windows: Tensor) -> Tensor:
    """Return the L2 norm of each channel, ``(A, 3, 1, 1)``."""
    norms: Tensor = torch.linalg.vector_norm(windows, dim=(2, 3), keepdim=True)
    return norms
