"""Random changes to whole batches of images, as tensors."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

PIXELS_AT_ONCE = 2**17


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far images are changed in training; 0 turns a change off."""

    flip: float = 0.5  # probability
    rotation: float = 15.0  # degrees either way
    zoom: float = 0.1  # share of the size either way
    shift: float = 0.05  # share of the size either way
    color: float = 0.2  # share of brightness, contrast and saturation either way
    erase: float = 0.25  # probability of one erased rectangle
    blur: float = 0.25  # probability of a loss of resolution down to a quarter

    @property
    def moves(self) -> bool:
        """Whether pixels leave their places."""
        return any((self.flip, self.rotation, self.zoom, self.shift))


def augment(images: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """Change images ``(N, 3, S, S)``, bytes or floats in [0, 1]; returns floats in [0, 1].

    What is returned is laid out as convolutions like it (channels last). ``generator`` is the
    CPU's, wherever the images are: every device sees changes of the same kind.
    """
    count, _, height, width = images.shape
    # On a CPU a few images at a time stay in its cache, which is three times as fast.
    at_once = max(1, PIXELS_AT_ONCE // (height * width)) if images.device.type == "cpu" else count
    out = torch.empty(images.shape, device=images.device, memory_format=torch.channels_last)
    for part, place in zip(images.split(at_once), out.split(at_once), strict=True):
        # A copy either way, which the changes below may overwrite.
        floats = part.float().div_(255) if part.dtype == torch.uint8 else part.clone()
        place.copy_(_changed(floats, settings, generator))
    return out


def _changed(images: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """Change float images, which may be overwritten."""
    if settings.moves:
        images = _move(images, settings, generator)
    if settings.blur:
        images = _lose_resolution(images, settings.blur, generator)
    if settings.color:
        images = _recolor(images, settings.color, generator)
    if settings.erase:
        images = _erase(images, settings.erase, generator)
    return images.clamp_(0, 1)


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator)


def _move(images: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    n = len(images)
    angle = _uniform(n, -settings.rotation, settings.rotation, generator) * math.pi / 180
    scale = _uniform(n, 1 - settings.zoom, 1 + settings.zoom, generator)
    mirror = 1 - 2 * (torch.rand(n, generator=generator) < settings.flip).float()
    shift = _uniform(2 * n, -2 * settings.shift, 2 * settings.shift, generator).view(n, 2)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = torch.stack([cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]], 1)
    grid = _grid(rows.view(n, 2, 3).to(images.device), *images.shape[2:])
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _grid(rows: Tensor, height: int, width: int) -> Tensor:
    """Do what ``functional.affine_grid`` does for ``(N, 2, 3)``, several times as fast."""
    across = (2 * torch.arange(width, device=rows.device) + 1) / width - 1
    down = (2 * torch.arange(height, device=rows.device) + 1) / height - 1
    grid = torch.empty(len(rows), height, width, 2, device=rows.device)
    for axis in (0, 1):
        start = rows[:, axis, 1:2] * down + rows[:, axis, 2:]
        grid[..., axis] = start[:, :, None] + (rows[:, axis, :1] * across)[:, None, :]
    return grid


def _lose_resolution(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    chosen = (torch.rand(len(images), generator=generator) < share).nonzero()[:, 0]
    if not len(chosen):
        return images
    chosen = chosen.to(images.device)
    size = images.shape[-1]
    small = int(size * float(_uniform(1, 0.25, 0.7, generator)))
    reduced = functional.interpolate(images[chosen], (small, small), mode="area")
    images[chosen] = functional.interpolate(reduced, (size, size), mode="bilinear")
    return images


def _recolor(images: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Change brightness, then contrast about the mean, then saturation: one matrix an image."""
    n = len(images)
    brightness, contrast, saturation = (
        _uniform(n, 1 - amount, 1 + amount, generator).view(n, 1, 1).to(images.device)
        for _ in range(3)
    )
    own = torch.eye(3, device=images.device)
    gray = torch.full((3, 3), 1 / 3, device=images.device)
    matrix = brightness * contrast * (saturation * own + (1 - saturation) * gray)
    flat = images.flatten(2)
    offset = brightness * (1 - contrast) * flat.mean((1, 2), keepdim=True)
    return torch.baddbmm(offset, matrix, flat).view(images.shape)


def _erase(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    n, _, height, width = images.shape
    chosen = torch.rand(n, generator=generator) < probability
    sides = _uniform(2 * n, 0.1, 0.35, generator).view(n, 2)
    centers = torch.rand(n, 2, generator=generator)
    rows = (torch.arange(height) + 0.5) / height
    columns = (torch.arange(width) + 0.5) / width
    in_rows = (rows[None] - centers[:, :1]).abs() < sides[:, :1] / 2
    in_columns = (columns[None] - centers[:, 1:]).abs() < sides[:, 1:] / 2
    fill = torch.rand(n, 3, 1, 1, generator=generator)
    which = chosen.nonzero()[:, 0]
    inside = in_rows[which, None, :, None] & in_columns[which, None, None, :]
    which, inside, fill = (part.to(images.device) for part in (which, inside, fill[which]))
    images[which] = torch.where(inside, fill, images[which])
    return images
