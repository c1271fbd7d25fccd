"""Between float tensors (N, 3, H, W) and 8-bit arrays (N, H, W, 3).

In kernels of their own: a filter of a 32x32 image takes less time than torch needs to convert it.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.worker.defenses.jit import kernel

_LEVELS = (torch.arange(256) / 255.0).numpy()


def to_bytes(images: Tensor) -> NDArray[np.uint8]:
    """Return float images ``(N, 3, H, W)`` in [0, 1] as uint8 ``(N, H, W, 3)``, rounded.

    Raises ``ValueError`` for another shape or for no pixels at all.
    """
    check_images(images)
    values = images.detach().to("cpu", torch.float32).contiguous().numpy()
    count, _, height, width = values.shape
    pixels = np.empty((count, height, width, 3), dtype=np.uint8)
    _pack(values.reshape(count, 3, -1), pixels.reshape(count, -1, 3))
    return pixels


def from_bytes(images: NDArray[np.uint8], like: Tensor) -> Tensor:
    """Return uint8 ``(N, H, W, 3)`` as float images ``(N, 3, H, W)`` on the device of ``like``."""
    count, height, width, _ = images.shape
    values = np.empty((count, 3, height, width), dtype=np.float32)
    pixels = np.ascontiguousarray(images).reshape(count, -1, 3)
    _unpack(pixels, _LEVELS, values.reshape(count, 3, -1))
    return torch.from_numpy(values).to(like.device, like.dtype)


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


@kernel
def _pack(values: NDArray[np.float32], pixels: NDArray[np.uint8]) -> None:
    for image in range(values.shape[0]):
        for pixel in range(values.shape[2]):
            for channel in range(3):
                level = np.rint(values[image, channel, pixel] * np.float32(255))
                level = min(max(level, np.float32(0)), np.float32(255))
                pixels[image, pixel, channel] = np.uint8(level)


@kernel
def _unpack(
    pixels: NDArray[np.uint8], levels: NDArray[np.float32], values: NDArray[np.float32]
) -> None:
    for image in range(values.shape[0]):
        for channel in range(3):
            for pixel in range(values.shape[2]):
                values[image, channel, pixel] = levels[pixels[image, pixel, channel]]
