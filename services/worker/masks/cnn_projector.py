"""Puts a design on somebody who already wears a mask, through the mask's predicted transparency.

Paper 004's projector: a network looks at a masked photo and says of each pixel how much of it is
mask; a design takes that share. It needs no landmarks, which masks hide, and keeps the folds.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from services.worker.masks.projector import SHADE_RANGE, SHADE_STRENGTH, Wearing, softened, still
from services.worker.models.registry import ModelUnavailableError, find_models, read_weights
from shared.model_card import ModelCard

SIDE = 128
TASK = "mask-transparency"
Variant = Literal["paper", "wide"]
LEAST_SHARE = 0.05  # of a frame that is mask, from which a mask is worn; real ones cover 10 to 25 %
EDGE = 0.005  # share of the mask's area beyond each side of the box that a design is stretched to


class PaperAlpha(nn.Module):
    """The five 3x3 convolutions of paper 004, of 6, 12, 18, 24 and 1 channels.

    Each output pixel sees 11x11 of the photo: a color, hardly a shape.
    """

    channels = (6, 12, 18, 24, 1)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1)
            for before, after in pairwise((3, *self.channels))
        )

    def forward(self, photos: Tensor) -> Tensor:
        """Map photos ``(N, 3, 128, 128)`` in [0, 1] to logits of being mask, ``(N, 1, ...)``."""
        maps = photos
        for layer in self.layers[:-1]:
            maps = functional.relu(layer(maps))
        logits: Tensor = self.layers[-1](maps)
        return logits


class WideAlpha(nn.Module):
    """Down to 8x8 and up again, beside shortcuts (Ronneberger et al. 2015): it sees shapes.

    Each output pixel sees 125x125 of the photo; about an eighth of the other's arithmetic, since
    most of it is done on small maps.
    """

    widths = (12, 18, 24, 32)

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1)
            for before, after in pairwise((3, *self.widths))
        )
        self.middle = nn.ModuleList(
            nn.Conv2d(self.widths[-1], self.widths[-1], 3, padding=1) for _ in range(2)
        )
        rising = self.widths[::-1]
        self.up = nn.ModuleList(
            nn.Conv2d(before + after, after, 3, padding=1) for before, after in pairwise(rising)
        )
        self.last = nn.Conv2d(self.widths[0] + 3, 1, 3, padding=1)

    def forward(self, photos: Tensor) -> Tensor:
        """Map photos ``(N, 3, 128, 128)`` in [0, 1] to logits of being mask, ``(N, 1, ...)``."""
        maps, kept = photos, [photos]
        for layer in self.down:
            maps = functional.relu(layer(maps))
            kept.append(maps)
        for layer in self.middle:
            maps = functional.relu(layer(maps))
        kept.pop()
        for layer in self.up:
            maps = functional.relu(layer(torch.cat([_doubled(maps), kept.pop()], 1)))
        logits: Tensor = self.last(torch.cat([_doubled(maps), kept.pop()], 1))
        return logits


def _doubled(maps: Tensor) -> Tensor:
    return functional.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)


NETWORKS: Mapping[Variant, Callable[[], nn.Module]] = MappingProxyType(
    {"paper": PaperAlpha, "wide": WideAlpha}
)
VARIANTS: tuple[Variant, ...] = ("paper", "wide")


def model_id(variant: Variant) -> str:
    """Return the id of a variant's weights."""
    return f"mask-alpha-{variant}"


def alpha_card(variant: Variant = "wide") -> ModelCard:
    """Return the card of a network that ships; raises ``ModelUnavailableError``."""
    return _installed(variant)[0]


def _installed(variant: Variant) -> tuple[ModelCard, Path]:
    found = find_models().get(model_id(variant))
    if found is None:
        raise ModelUnavailableError(f"the weights {model_id(variant)} are not installed")
    return found


def load_alpha(variant: Variant = "wide") -> nn.Module:
    """Load a network that ships, frozen; raises ``ModelUnavailableError``."""
    found = _installed(variant)
    network = NETWORKS[variant]()
    try:
        network.load_state_dict(read_weights(*found))
    except RuntimeError as error:
        raise ModelUnavailableError(f"{model_id(variant)}: {error}") from error
    return network.eval().requires_grad_(False)


@torch.inference_mode()
def predicted_alpha(network: nn.Module, photos: Tensor) -> Tensor:
    """Return how much of each pixel is mask, ``(N, 1, 128, 128)`` in [0, 1].

    ``photos`` is ``(N, 3, H, W)`` in [0, 1], square: aligned frames, or photos that show as much.
    """
    small = photos
    if photos.shape[2:] != (SIDE, SIDE):
        small = functional.interpolate(
            photos, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
        )
    alphas: Tensor = network(small).sigmoid()
    return alphas


def put_through(
    photos: Tensor,
    designs: Tensor,
    alphas: Tensor,
    *,
    wearing: Wearing | None = None,
    shade: float = SHADE_STRENGTH,
) -> Tensor:
    """Put designs ``(N or 1, 3, h, w)`` where ``alphas (N, 1, h', w')`` says that a mask is.

    ``photos`` is ``(N, 3, H, W)``; all lie in [0, 1]. A design is stretched over the box that holds
    the mask, and takes its light and folds from the mask under it (``shade`` 0: none; a mask with a
    print of its own would show through). Of ``wearing`` only light and blur count: the mask sits
    where it does. Differentiable in the designs and the photos. Raises ``ValueError`` for sizes
    that do not match.
    """
    count, size = len(photos), photos.shape[2:]
    if len(alphas) != count or len(designs) not in (1, count) or designs.shape[1] != 3:
        raise ValueError(f"{len(designs)} designs and {len(alphas)} alphas for {count} photos")
    cover = alphas.to(photos)
    if cover.shape[2:] != size:
        cover = functional.interpolate(cover, size, mode="bilinear", align_corners=False)
    columns, rows = (_stretched(cover.sum((1, axis))) for axis in (2, 3))
    grid = torch.stack(
        [
            columns[:, None, :].expand(count, *size),
            rows[:, :, None].expand(count, *size),
        ],
        3,
    )
    texture = functional.grid_sample(
        designs.expand(count, -1, -1, -1), grid, padding_mode="border", align_corners=False
    )
    wearing = wearing or still(count)
    light = _folds(photos, cover, shade)
    gain = wearing.contrast.to(photos).view(-1, 1, 1, 1) * light
    lit = torch.addcmul(wearing.brightness.to(photos).view(-1, 1, 1, 1) * light, texture, gain)
    if wearing.blur:
        lit, cover = softened(lit, wearing.blur), softened(cover, wearing.blur)
    return torch.lerp(photos, lit.clamp(0, 1), cover)


def _stretched(sums: Tensor) -> Tensor:
    """Return where pixels lie between a mask's two edges, -1 … 1, by sums of alpha ``(N, L)``."""
    total = sums.sum(1, keepdim=True).clamp(min=1e-6)
    grown = sums.cumsum(1) / total
    first = (grown < EDGE).sum(1, keepdim=True)
    last = (grown < 1 - EDGE).sum(1, keepdim=True)
    middles = torch.arange(sums.shape[1], device=sums.device).to(sums) + 0.5
    return 2 * (middles - first) / (last + 1 - first).clamp(min=1) - 1


def _folds(photos: Tensor, cover: Tensor, strength: float) -> Tensor:
    """Return how light the mask is at each place, against its mean."""
    if strength == 0:
        return photos.new_ones(1)
    gray = photos.mean(1, keepdim=True)
    mean = (gray * cover).sum((2, 3), keepdim=True) / cover.sum((2, 3), keepdim=True).clamp(min=1)
    relative = (gray / mean.clamp(min=0.05)).clamp(*SHADE_RANGE)
    return 1 + strength * (relative - 1)


def mean_errors(alphas: Tensor, truth: Tensor) -> tuple[Sequence[float], Sequence[float]]:
    """Return the absolute error of each photo, and the IoU of what is over .5; both ``N`` long."""
    wrong = (alphas - truth).abs().mean((1, 2, 3))
    mine, theirs = alphas > 0.5, truth > 0.5
    both = (mine & theirs).sum((1, 2, 3))
    either = (mine | theirs).sum((1, 2, 3)).clamp(min=1)
    return wrong.tolist(), (both / either).tolist()
