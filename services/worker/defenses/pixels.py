"""Between float tensors (N, 3, H, W) and 8-bit arrays (N, H, W, 3)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_bytes(images: Tensor) -> NDArray[np.uint8]:
    """Return float images ``(N, 3, H, W)`` in [0, 1] as uint8 ``(N, H, W, 3)``, rounded.

    Raises ``ValueError`` for another shape or for no pixels at all.
    """
    check_images(images)
    grid = images.detach().mul(255.0).round_().clamp_(0, 255).to(torch.uint8)
    return grid.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def from_bytes(images: NDArray[np.uint8], like: Tensor) -> Tensor:
    """Return uint8 ``(N, H, W, 3)`` as float images ``(N, 3, H, W)`` on the device of ``like``."""
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).to(like.device)
    return tensor.to(like.dtype).contiguous().div_(255.0)


def to_grid(images: Tensor) -> Tensor:
    """Return images rounded to the 8-bit grid."""
    return images.mul(255.0).round_().clamp_(0, 255).div_(255.0)


def check_images(images: Tensor) -> None:
    """Raise ``ValueError`` unless ``images`` is ``(N, 3, H, W)``, floating, with pixels."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            f"a defense takes float images (N, 3, H, W), not {images.dtype} {tuple(images.shape)}"
        )
    if 0 in images.shape:
        raise ValueError(f"there is nothing to defend in images of shape {tuple(images.shape)}")
