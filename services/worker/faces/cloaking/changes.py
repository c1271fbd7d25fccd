"""What happens to a photo after it was shared, differentiable: JPEG, blur, crops that are off.

Every face draws its own changes from its own generator, so that a face's cloak does not depend on
who else is in the photo.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 8
# The tables of JPEG's annex K, of luminance and of chrominance, row by row.
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
_TO_YCC = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)


def _cosines() -> Tensor:
    rows = torch.arange(BLOCK).float()
    basis = torch.cos((2 * rows[None] + 1) * rows[:, None] * math.pi / (2 * BLOCK)) / 2
    basis[0] /= math.sqrt(2)
    return basis


_DCT = _cosines()


def quantization(quality: int) -> Tensor:
    """Return libjpeg's tables of a quality in 1 … 100: luminance, two of chrominance, (3, 8, 8)."""
    if not 1 <= quality <= 100:
        raise ValueError(f"a JPEG quality lies in 1 … 100: {quality}")
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    tables = torch.tensor([LUMINANCE, CHROMINANCE, CHROMINANCE], dtype=torch.float32)
    return ((tables * scale + 50) / 100).floor().clamp(1, 255)


def jpeg(images: Tensor, quality: int, *, subsample: bool = True) -> Tensor:
    """Pass images ``(N, 3, H, W)`` in [0, 1] through JPEG; gradients pass the rounding unchanged.

    Blocks start at the upper left. With ``subsample`` color has half the resolution (4:2:0), as
    nearly all cameras and sites have it.
    """
    height, width = images.shape[2:]
    pad = 2 * BLOCK
    padded = functional.pad(images * 255, (0, -width % pad, 0, -height % pad), mode="replicate")
    planes = torch.einsum("kc,nchw->nkhw", _TO_YCC.to(images), padded)
    tables = quantization(quality).to(images)
    luminance = _coded(planes[:, :1] - 128, tables[:1]) + 128
    color = planes[:, 1:]
    if subsample:
        color = _coded(functional.avg_pool2d(color, 2), tables[1:])
        color = functional.interpolate(color, scale_factor=2.0, mode="bilinear")
    else:
        color = _coded(color, tables[1:])
    back = torch.linalg.inv(_TO_YCC).to(images)
    decoded = torch.einsum("ck,nkhw->nchw", back, torch.cat([luminance, color], 1))
    return (decoded[..., :height, :width] / 255).clamp(0, 1)


def _coded(planes: Tensor, tables: Tensor) -> Tensor:
    count, channels, height, width = planes.shape
    blocks = planes.reshape(count, channels, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    dct = _DCT.to(planes)
    coefficients = torch.einsum("ui,ncaibj,vj->ncabuv", dct, blocks, dct)
    scaled = coefficients / tables[None, :, None, None]
    rounded = scaled + (scaled.round() - scaled).detach()
    restored = rounded * tables[None, :, None, None]
    pixels = torch.einsum("ui,ncabuv,vj->ncaibj", dct, restored, dct)
    return pixels.reshape(count, channels, height, width)


def blur(images: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Blur images ``(N, C, H, W)``, each by a Gaussian of its own sigma in pixels (0: none)."""
    reach = max(1, math.ceil(3 * max(sigmas)))
    places = torch.arange(-reach, reach + 1, device=images.device).float()
    width = torch.tensor([max(sigma, 1e-3) for sigma in sigmas], device=images.device)
    kernels = (-places.square() / (2 * width[:, None].square())).exp()
    kernels = kernels / kernels.sum(1, keepdim=True)
    count, channels = images.shape[:2]
    kernels = kernels.repeat_interleave(channels, 0)[:, None]
    flat = functional.pad(images, (reach,) * 4, mode="replicate")
    flat = flat.reshape(1, count * channels, *flat.shape[2:])
    flat = functional.conv2d(flat, kernels[:, :, None], groups=count * channels)
    flat = functional.conv2d(flat, kernels[..., None], groups=count * channels)
    return flat.view(images.shape)


def move(images: Tensor, maps: Tensor) -> Tensor:
    """Sample images ``(N, C, H, W)`` at places moved by affine maps ``(N, 2, 3)`` of [-1, 1]."""
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def random_maps(generators: Sequence[torch.Generator], strength: float) -> Tensor:
    """Draw small turns, shifts, scales and mirrorings ``(N, 2, 3)``: crops of other detectors.

    At strength 1: up to 8 degrees, 6 % of the side, 8 % of the size; every second one mirrored.
    """
    rows = []
    for generator in generators:
        draw = 2 * torch.rand(5, generator=generator) - 1
        angle, scale = draw[0] * strength * math.radians(8), 1 + draw[1] * strength * 0.08
        shift = draw[2:4] * strength * 0.12
        mirror = -1.0 if strength > 0 and draw[4] > 0 else 1.0
        cos, sin = angle.cos() * scale, angle.sin() * scale
        rows.append(
            torch.stack(
                [
                    torch.stack([cos * mirror, -sin, shift[0]]),
                    torch.stack([sin * mirror, cos, shift[1]]),
                ]
            )
        )
    return torch.stack(rows)
