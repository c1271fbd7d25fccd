"""Seam carving as a defense: content-aware resizing before the classifier (Park et al. 2022)."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.worker.defenses.base import FixedDefense, straight_through
from services.worker.defenses.pixels import from_bytes, to_bytes
from services.worker.defenses.seam_carving import Carved, Energy, Order, carve
from services.worker.defenses.seam_carving.carve import check_choices


class SeamCarving(FixedDefense):
    """Resizes to ``height`` x ``width`` by seams; see ``seam_carving.carve`` for the parameters.

    ``weights (H, W)`` protect the same region of every image. The gradient for attacks goes to the
    pixels that stayed: carving copies pixels, so that this is the true gradient wherever the
    choice of seams does not change; an inserted pixel's goes to the one it stands before.
    """

    name = "seam_carving"

    def __init__(
        self,
        *,
        height: int,
        width: int,
        energy: Energy = "gradient",
        order: Order = "width_first",
        weights: NDArray[np.uint16] | None = None,
        threads: int = 1,
    ) -> None:
        self.height, self.width = height, width
        self.energy, self.order = energy, order
        self.weights, self.threads = weights, threads
        check_choices(energy, order, threads)
        if height < 1 or width < 1:
            raise ValueError(f"a target of {height}x{width} cannot be used: one pixel must stay")

    def carve(self, images: Tensor) -> Carved:
        """Return the carved images with their seams and sources."""
        return carve(
            to_bytes(images),
            height=self.height,
            width=self.width,
            energy=self.energy,
            order=self.order,
            weights=self.weights,
            threads=self.threads,
        )

    def transform(self, images: Tensor) -> Tensor:
        return from_bytes(self.carve(images).images, images)

    def differentiable(
        self, images: Tensor, *, seed: int = 0, indices: Sequence[int] | None = None
    ) -> Tensor:
        del seed, indices
        carved = self.carve(images)
        sources = torch.from_numpy(carved.sources).to(images.device, torch.int64)
        routes = sources.flatten(1).unsqueeze(1).expand(-1, images.shape[1], -1)
        kept = images.flatten(2).gather(2, routes).unflatten(2, sources.shape[1:])
        return straight_through(kept, from_bytes(carved.images, images))
