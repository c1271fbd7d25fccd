"""Colors as people see them: CIELAB, differentiable, and the color difference CIEDE2000."""

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab
from torch import Tensor

# sRGB (IEC 61966-2-1) to XYZ, each row divided by the white of D65.
_WHITE = torch.tensor([0.95047, 1.0, 1.08883])
_TO_XYZ = (
    torch.tensor(
        [
            [0.412453, 0.357580, 0.180423],
            [0.212671, 0.715160, 0.072169],
            [0.019334, 0.119193, 0.950227],
        ]
    )
    / _WHITE[:, None]
)
_FROM_XYZ = torch.linalg.inv(_TO_XYZ)
_KNEE = 6 / 29  # of the cube root's straight part


def to_lab(images: Tensor) -> Tensor:
    """Return sRGB images ``(N, 3, H, W)`` in [0, 1] as L* in [0, 100], a* and b*."""
    low = images / 12.92
    high = ((images.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    linear = torch.where(images <= 0.04045, low, high)
    xyz = _mixed(_TO_XYZ, linear)
    straight = xyz / (3 * _KNEE**2) + 4 / 29
    root = torch.where(xyz > _KNEE**3, xyz.clamp(min=_KNEE**3) ** (1 / 3), straight)
    x, y, z = root.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def from_lab(lab: Tensor) -> Tensor:
    """Return CIELAB images ``(N, 3, H, W)`` as sRGB, cut to [0, 1]."""
    light, a, b = lab.unbind(1)
    y = (light + 16) / 116
    root = torch.stack([y + a / 500, y, y - b / 200], 1)
    cubed = root.clamp(min=_KNEE) ** 3
    xyz = torch.where(root > _KNEE, cubed, 3 * _KNEE**2 * (root - 4 / 29))
    linear = _mixed(_FROM_XYZ, xyz)
    high = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, high).clamp(0, 1)


def _mixed(matrix: Tensor, planes: Tensor) -> Tensor:
    """Mix three planes by a matrix; pixel by pixel, so that a batch changes no rounding."""
    first, second, third = planes.unbind(1)
    rows = [
        float(row[0]) * first + float(row[1]) * second + float(row[2]) * third for row in matrix
    ]
    return torch.stack(rows, 1)


def color_difference(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return CIEDE2000 of each pixel of two uint8 RGB images ``(H, W, 3)``, ``(H, W)``.

    About 1 is the least that can be seen side by side (Sharma et al. 2005).
    """
    return np.asarray(deltaE_ciede2000(rgb2lab(first), rgb2lab(second)), dtype=np.float64)
