"""The images within a distance of the original, on the 8-bit grid."""

import math
from typing import Literal

import torch
from torch import Tensor

from services.worker.attacks.scene import Scene

Norm = Literal["linf", "l2"]

SHRINKS = 40  # rounding may add to an L2 norm; so often at most the perturbation is shrunk
LEAST_SHRINK = 0.999


def whole_eps(eps: float) -> int:
    """Floor an L-infinity bound in units of 1/255 to the 8-bit grid.

    Raises ``ValueError`` when nothing is left of it, or when it exceeds 255.
    """
    # .05 * 255 and the like must not lose a level to rounding.
    floored = math.floor(eps + 1e-6)
    if not 1 <= floored <= 255:
        raise ValueError(f"eps is in units of 1/255, from 1 to 255, not {eps}")
    return floored


class Ball:
    """Images in levels 0..255 within ``eps`` (units of 1/255) of the originals of a scene.

    Pixels outside the scene's region stay as they are. ``grid`` returns whole levels that keep
    the bound exactly.
    """

    def __init__(self, scene: Scene, *, eps: float, norm: Norm) -> None:
        self._clean = scene.levels
        self._norm = norm
        self._eps = float(whole_eps(eps)) if norm == "linf" else eps
        if eps <= 0:
            raise ValueError(f"eps must be positive, not {eps}")
        reach = self._eps if norm == "linf" else 255.0
        outside = ~scene.allowed[:, None]
        self._low = self._within(scene.levels - reach, outside)
        self._high = self._within(scene.levels + reach, outside)

    def _within(self, bound: Tensor, outside: Tensor) -> Tensor:
        bound.clamp_(0, 255)
        return torch.where(outside, self._clean, bound) if bool(outside.any()) else bound

    def project(self, levels: Tensor) -> Tensor:
        """Move images into the ball, in place."""
        if self._norm == "l2":
            change = levels.sub_(self._clean)
            change.mul_((self._eps / lengths(change).clamp(min=1e-12)).clamp(max=1))
            levels = change.add_(self._clean)
        return torch.clamp(levels, self._low, self._high, out=levels)

    def ascend(self, levels: Tensor, gradient: Tensor, step: float | Tensor) -> Tensor:
        """Go ``step`` (a number, or one an image ``(A, 1, 1, 1)``) along a gradient, in place.

        The gradient may be overwritten. L-infinity steps follow its sign, L2 steps its direction.
        """
        if self._norm == "linf":
            direction = gradient.sign_()
        else:
            direction = gradient.div_(lengths(gradient).clamp(min=1e-12))
        if isinstance(step, Tensor):
            levels.addcmul_(direction, step)
        else:
            levels.add_(direction, alpha=step)
        return self.project(levels)

    def random(self, scene: Scene, number: int) -> Tensor:
        """Draw one starting point an image: uniform in the cube, or in the L2 ball's radius."""
        shape = tuple(self._clean.shape[1:])
        if self._norm == "linf":
            noise = scene.random(number, *shape).mul_(2).sub_(1).mul_(self._eps)
        else:
            noise = scene.normal(number, *shape)
            radius = scene.random(number, 1, purpose=1)[:, :, None, None]
            noise.mul_(radius * self._eps / lengths(noise).clamp(min=1e-12))
        start = noise.contiguous(memory_format=torch.channels_last).add_(self._clean)
        return self.project(start)

    def grid(self, levels: Tensor) -> Tensor:
        """Round to whole levels without leaving the ball."""
        rounded = levels.round()
        if self._norm == "linf":
            return rounded
        return self._shrink(levels - self._clean, rounded)

    def _shrink(self, change: Tensor, rounded: Tensor) -> Tensor:
        scale = torch.ones_like(change[:, :1, :1, :1])
        for _ in range(SHRINKS):
            norm = _exact_lengths(rounded - self._clean)
            over = norm > self._eps
            if not bool(over.any()):
                return rounded
            smaller = scale * (self._eps / norm).float().clamp(max=LEAST_SHRINK)
            scale = torch.where(over, smaller, scale)
            rounded = torch.where(over, (self._clean + change * scale).round(), rounded)
        over = _exact_lengths(rounded - self._clean) > self._eps
        # Cutting off the fractions of what is short enough leaves it so.
        return torch.where(over, self._clean + (change * LEAST_SHRINK).trunc(), rounded)


def lengths(change: Tensor) -> Tensor:
    """Return L2 norms ``(A, 1, 1, 1)``."""
    norms: Tensor = torch.linalg.vector_norm(change, dim=(1, 2, 3), keepdim=True)
    return norms


def _exact_lengths(change: Tensor) -> Tensor:
    # Squares of whole numbers add up exactly in float64, and not in float32.
    norms: Tensor = torch.linalg.vector_norm(
        change, dim=(1, 2, 3), keepdim=True, dtype=torch.float64
    )
    return norms
