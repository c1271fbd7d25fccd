"""Puts a design on aligned faces: warped by five points, shaded by the face, differentiable.

The design is an image of the mask's printed area. A thin-plate spline (Bookstein 1989) takes each
pixel of a face's frame to the frame of a frontal face, so that the five points land exactly where
that face has them; there the mask has its outline, and the design its place.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from services.worker.faces.alignment import FRAME, FRAME_POINTS
from services.worker.faces.cloaking.changes import blur
from services.worker.masks.outlines import AREA, Shape, outline

SHADE_CELL = 8  # pixels of the frame: what is coarser is light, not skin
SHADE_STRENGTH = 0.7
SHADE_RANGE = (0.5, 1.4)
CELLS = 28  # a side, of the grid on which the masks of a batch are looked up


def fit(points: NDArray[np.floating]) -> Tensor:
    """Fit the mask to faces by their five points ``(N, 5, 2)``, in pixels of their own frames.

    Returns the coefficients of the splines, ``(N, 8, 2)``, preceded by the points: ``(N, 13, 2)``.
    Raises ``ValueError`` when the points of a face lie on one line.
    """
    points = np.asarray(points, dtype=np.float64).reshape(-1, 5, 2)
    count = len(points)
    spread = points - points.mean(1, keepdims=True)
    if count and np.linalg.svd(spread, compute_uv=False)[:, 1].min() < 1.0:
        raise ValueError("the five points of a face lie on a line")
    system = np.zeros((count, 8, 8))
    apart = points[:, :, None] - points[:, None]
    system[:, :5, :5] = _kernel(np.square(apart).sum(3))
    affine = np.concatenate([np.ones((count, 5, 1)), points], 2)
    system[:, :5, 5:] = affine
    system[:, 5:, :5] = affine.transpose(0, 2, 1)
    aims = np.zeros((count, 8, 2))
    aims[:, :5] = FRAME_POINTS
    weights = np.linalg.solve(system, aims)
    return torch.from_numpy(np.concatenate([points, weights], 1).astype(np.float32))


def _kernel(squared: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * squared * np.log(np.maximum(squared, 1e-12)))


def _places(fits: Tensor, side: int, rows: Tensor, columns: Tensor) -> Tensor:
    """Return where pixels at ``rows (R,)`` and ``columns (C,)`` lie, ``(N, R, C, 2)``."""
    margin = (FRAME - side) // 2
    y, x = rows + margin, columns + margin
    points, weights = fits[:, :5], fits[:, 5:]
    # Point by point, (N, R, C) each: a few passes over memory instead of one through pairs.
    down = (y[None, None] - points[:, :, 1:]).square()[..., None]
    across = (x[None, None] - points[:, :, :1]).square()[:, :, None]
    squared = down + across
    radial = squared.clamp(min=1e-12).log_().mul_(squared).flatten(2)
    bent = (0.5 * weights[:, :5]).transpose(1, 2) @ radial
    affine = weights[:, 5:, :, None, None]
    straight = affine[:, 0] + affine[:, 1] * x + affine[:, 2] * y[:, None]
    return (bent.view(straight.shape) + straight).permute(0, 2, 3, 1)


@dataclass(frozen=True)
class Wearing:
    """How masks sit and are lit: one value a face.

    ``turn`` in radians and ``shift`` ``(N, 2)`` in pixels of the frame move the mask on the face,
    ``scale`` sizes it; ``contrast`` and ``brightness`` change its colors, ``blur`` is a sigma.
    """

    turn: Tensor
    scale: Tensor
    shift: Tensor
    contrast: Tensor
    brightness: Tensor
    blur: float = 0.0


def still(count: int) -> Wearing:
    """Return masks that sit exactly where the points say, in their own colors."""
    zeros, ones = torch.zeros(count), torch.ones(count)
    return Wearing(zeros, ones, torch.zeros(count, 2), ones, zeros)


def random_wearing(count: int, generator: torch.Generator) -> Wearing:
    """Draw poses and light as Zolfi et al. (2022) do, and for all of them one blur.

    Up to 5 degrees, 5 % of size, 2 pixels; contrast .8 to 1.2, brightness .1 either way.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape or (count,), generator=generator)

    return Wearing(
        turn=uniform(-np.pi / 36, np.pi / 36),
        scale=uniform(0.95, 1.05),
        shift=uniform(-2, 2, count, 2),
        contrast=uniform(0.8, 1.2),
        brightness=uniform(-0.1, 0.1),
        blur=max(0.0, float(uniform(-1.0, 1.0, 1))),
    )


def put_on(
    faces: Tensor,
    designs: Tensor,
    fits: Tensor,
    *,
    shape: Shape = "surgical",
    wearing: Wearing | None = None,
    shade: float = SHADE_STRENGTH,
) -> Tensor:
    """Put designs ``(N or 1, 3, h, w)`` on faces ``(N, 3, S, S)``; both in [0, 1].

    The faces are aligned frames or their inner parts, ``S`` up to 160; ``fits`` comes from ``fit``.
    Differentiable in the designs. Raises ``ValueError`` for sizes that do not match.
    """
    count, side = len(faces), faces.shape[-1]
    if len(fits) != count or len(designs) not in (1, count) or designs.shape[1] != 3:
        raise ValueError(f"{len(designs)} designs and {len(fits)} fits for {count} faces")
    wearing, fits = wearing or still(count), fits.to(faces)
    rows, columns = _window(fits, side, wearing)
    pixels = torch.arange(side, device=fits.device).to(fits)
    places = _moved(_places(fits, side, pixels[rows], pixels[columns]), wearing)
    texture = functional.grid_sample(
        designs.expand(count, -1, -1, -1),
        _as_grid(places, AREA),
        padding_mode="border",
        align_corners=False,
    )
    cover = functional.grid_sample(
        outline(shape).to(faces).expand(count, -1, -1, -1),
        _as_grid(places, (-0.5, -0.5, FRAME - 0.5, FRAME - 0.5)),
        align_corners=False,
    )
    light = _shading(faces, cover, (rows, columns), shade)
    gain = wearing.contrast.to(faces).view(-1, 1, 1, 1) * light
    lit = torch.addcmul(wearing.brightness.to(faces).view(-1, 1, 1, 1) * light, texture, gain)
    if wearing.blur:
        lit, cover = softened(lit, wearing.blur), softened(cover, wearing.blur)
    worn = faces.clone()
    under = faces[..., rows, columns]
    worn[..., rows, columns] = torch.lerp(under, lit.clamp(0, 1), cover)
    return worn


def _window(fits: Tensor, side: int, wearing: Wearing) -> tuple[slice, slice]:
    """Return the rows and columns outside which no mask of the batch lies.

    Looked up on a grid of cells, each larger on all sides than what its corners span: the
    mask is about a third of a face, and nothing else needs to be computed.
    """
    lines = torch.linspace(0, side - 1, CELLS + 1, device=fits.device).to(fits)
    corners = _moved(_places(fits, side, lines, lines), wearing).permute(0, 3, 1, 2)
    high = functional.max_pool2d(corners, 2, 1)
    low = -functional.max_pool2d(-corners, 2, 1)
    reach = 1.5 * (high - low)  # with room for the blur
    first, last = (fits.new_tensor(AREA[at : at + 2]).view(1, 2, 1, 1) for at in (0, 2))
    meets = ((high + reach >= first) & (low - reach <= last)).all(1).any(0)

    def span(hit: Tensor) -> slice:
        which = torch.nonzero(hit)[:, 0]
        if not len(which):
            return slice(0, 1)
        return slice(int(lines[which[0]].floor()), int(lines[which[-1] + 1].ceil()) + 1)

    return span(meets.any(1)), span(meets.any(0))


def softened(images: Tensor, sigma: float) -> Tensor:
    """Blur all images alike: as one batch of single channels, which is fast."""
    flat = images.flatten(0, 1)[None]
    return blur(flat, [sigma])[0].view(images.shape)


def _moved(places: Tensor, wearing: Wearing) -> Tensor:
    """Turn, size and shift the mask about its middle."""
    middle = places.new_tensor([(AREA[0] + AREA[2]) / 2, (AREA[1] + AREA[3]) / 2])
    cos = (wearing.turn.cos() / wearing.scale).to(places).view(-1, 1, 1)
    sin = (wearing.turn.sin() / wearing.scale).to(places).view(-1, 1, 1)
    apart = places - middle - wearing.shift.to(places)[:, None, None]
    x, y = apart.unbind(3)
    return torch.stack([cos * x + sin * y, -sin * x + cos * y], 3) + middle


def _as_grid(places: Tensor, area: tuple[float, float, float, float]) -> Tensor:
    low, high = places.new_tensor(area[:2]), places.new_tensor(area[2:])
    return 2 * (places - low) / (high - low) - 1


def _shading(faces: Tensor, cover: Tensor, window: tuple[slice, slice], strength: float) -> Tensor:
    """Return how light the face is at each place of a window, against the mean under the mask."""
    if strength == 0:
        return faces.new_ones(1)
    gray = faces.mean(1, keepdim=True)
    coarse = functional.avg_pool2d(gray, SHADE_CELL, ceil_mode=True)
    coarse = functional.avg_pool2d(coarse, 3, 1, padding=1, count_include_pad=False)
    light = functional.interpolate(coarse, faces.shape[2:], mode="bilinear", align_corners=False)
    light = light[..., window[0], window[1]]
    total = cover.sum((2, 3), keepdim=True).clamp(min=1)
    mean = (light * cover).sum((2, 3), keepdim=True) / total
    relative = (light / mean.clamp(min=0.05)).clamp(*SHADE_RANGE)
    return 1 + strength * (relative - 1)
