"""Total-variation minimization, batched."""

import torch
from torch import Tensor

from services.worker.defenses.base import FixedDefense
from services.worker.defenses.pixels import check_images, to_grid


class TotalVariation(FixedDefense):
    """Minimizes total variation plus distance to the image (Rudin, Osher and Fatemi 1992).

    By Chambolle's dual projection (2004), each channel alone, for a fixed number of
    ``iterations``; ``weight`` is in units of the range [0, 1]: the larger, the smoother.
    """

    name = "tv"

    def __init__(self, *, weight: float = 0.05, iterations: int = 50) -> None:
        if weight <= 0:
            raise ValueError("the weight of total variation is above 0")
        if iterations < 1:
            raise ValueError("total variation needs at least one iteration")
        self.weight, self.iterations = weight, iterations

    def transform(self, images: Tensor) -> Tensor:
        check_images(images)
        return to_grid(denoise(images.detach(), weight=self.weight, iterations=self.iterations))


def denoise(images: Tensor, *, weight: float, iterations: int) -> Tensor:
    """Return denoised images ``(..., H, W)``; every leading axis is a channel of its own."""
    down = torch.zeros_like(images)
    across = torch.zeros_like(images)
    out = images
    step = 0.25  # the largest with a proof of convergence in two dimensions
    for number in range(iterations):
        if number:
            out = images - _divergence_of_dual(down, across)
        slope_down = torch.zeros_like(images)
        slope_down[..., :-1, :] = out[..., 1:, :] - out[..., :-1, :]
        slope_across = torch.zeros_like(images)
        slope_across[..., :-1] = out[..., 1:] - out[..., :-1]
        length = torch.sqrt(slope_down.square() + slope_across.square())
        shrink = 1.0 + length * (step / weight)
        down = (down - step * slope_down) / shrink
        across = (across - step * slope_across) / shrink
    return out


def _divergence_of_dual(down: Tensor, across: Tensor) -> Tensor:
    total = down + across
    total[..., 1:, :] -= down[..., :-1, :]
    total[..., 1:] -= across[..., :-1]
    return total
