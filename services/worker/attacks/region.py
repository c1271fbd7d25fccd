"""Where an attack may change an image: everywhere, in boxes, or under masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor


@dataclass(frozen=True)
class Region:
    """Pixels that may change: ``allowed`` is bool ``(N, H, W)``, with some pixel in each image."""

    allowed: Tensor

    def __post_init__(self) -> None:
        if self.allowed.dim() != 3 or self.allowed.dtype != torch.bool:
            raise ValueError("a region is a bool tensor (N, H, W)")
        if not bool(self.allowed.flatten(1).any(1).all()):
            raise ValueError("a region must leave at least one pixel of each image to change")

    @classmethod
    def whole(cls, count: int, height: int, width: int) -> "Region":
        """Allow every pixel of ``count`` images."""
        return cls(torch.ones(count, height, width, dtype=torch.bool))

    @classmethod
    def boxes(
        cls, boxes: Sequence[tuple[float, float, float, float]], *, height: int, width: int
    ) -> "Region":
        """Allow one box ``(x0, y0, x1, y1)`` in pixels an image; the far edges are excluded."""
        allowed = torch.zeros(len(boxes), height, width, dtype=torch.bool)
        for image, (x0, y0, x1, y1) in zip(allowed, boxes, strict=True):
            left, top = max(0, round(x0)), max(0, round(y0))
            image[top : max(top, round(y1)), left : max(left, round(x1))] = True
        return cls(allowed)

    def take(self, rows: Tensor) -> "Region":
        """Return the region of some images."""
        return Region(self.allowed[rows])


@dataclass(frozen=True)
class PixelSpace:
    """Positions for pixel attacks, as flat indices ``y * W + x``.

    ``low`` and ``high`` ``(N, 2)`` bound x and y (``high`` is excluded); ``nearest`` ``(N, H*W)``
    moves a position to the nearest allowed one (None where each box is allowed as a whole);
    ``counts`` ``(N,)`` and ``order`` ``(N, H*W)`` list the allowed positions first.
    """

    low: Tensor
    high: Tensor
    nearest: Tensor | None
    counts: Tensor
    order: Tensor

    @classmethod
    def of(cls, allowed: Tensor) -> "PixelSpace":
        """Read the space from bool masks ``(N, H, W)``."""
        low, high, nearest, full = [], [], [], True
        width = allowed.shape[2]
        for mask in allowed.cpu().numpy():
            rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
            low.append((columns[0], rows[0]))
            high.append((columns[-1] + 1, rows[-1] + 1))
            full &= bool(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all())
        if not full:
            for mask in allowed.cpu().numpy():
                near = ndimage.distance_transform_edt(
                    ~mask, return_distances=False, return_indices=True
                )
                nearest.append((near[0].astype(np.int64) * width + near[1]).ravel())
        device, flat = allowed.device, allowed.flatten(1)
        return cls(
            torch.tensor(np.array(low), dtype=torch.float32, device=device),
            torch.tensor(np.array(high), dtype=torch.float32, device=device),
            None if full else torch.from_numpy(np.stack(nearest)).to(device),
            flat.sum(1),
            flat.int().sort(dim=1, descending=True, stable=True).indices,
        )
