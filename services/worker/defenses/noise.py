"""Gaussian noise: what randomized smoothing puts before the classifier."""

from collections.abc import Sequence

import torch
from torch import Tensor

from services.worker.defenses.base import Defense, generators
from services.worker.defenses.pixels import check_images


class Noise(Defense):
    """Adds Gaussian noise of standard deviation ``sigma`` (of the range [0, 1]), unclipped.

    Unclipped, because the certificate of randomized smoothing is one for exactly this noise.
    """

    name = "noise"
    deterministic = False

    def __init__(self, *, sigma: float = 0.12) -> None:
        if sigma <= 0:
            raise ValueError("the sigma of the noise is above 0")
        self.sigma = sigma

    def apply(
        self, images: Tensor, *, seed: int = 0, indices: Sequence[int] | None = None
    ) -> Tensor:
        check_images(images)
        sources = generators(seed, len(images), indices)
        noise = torch.stack([torch.randn(images.shape[1:], generator=source) for source in sources])
        return images.detach() + self.sigma * noise.to(images)
