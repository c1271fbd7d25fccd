"""Generators of designs: latent vectors in, pictures of a mask's printed area out."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

LATENT = 100
SIDE = 128

Architecture = Literal["dense", "convolutional", "pixels"]


class DenseGenerator(nn.Module):
    """The fully connected generator of paper 004: three layers of 32 units, then the picture."""

    def __init__(self, condition: int = 0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(LATENT + condition, 32),
            nn.LeakyReLU(0.2),
            nn.Linear(32, 32),
            nn.LeakyReLU(0.2),
            nn.Linear(32, 32),
            nn.LeakyReLU(0.2),
            nn.Linear(32, 3 * SIDE * SIDE),
            nn.Sigmoid(),
        )

    def forward(self, latent: Tensor) -> Tensor:
        """Map vectors ``(N, 100 + condition)`` to designs ``(N, 3, 128, 128)`` in [0, 1]."""
        designs: Tensor = self.layers(latent).view(-1, 3, SIDE, SIDE)
        return designs


class ConvolutionalGenerator(nn.Module):
    """A generator that draws in shapes: doubled four times from 4x4, 3x3 convolutions between.

    The last one draws the 2x2 pixels of each place as channels (sub-pixel convolution, Shi et al.
    2016): at full size, convolutions would take longer than a recognizer does.
    """

    def __init__(self, condition: int = 0, width: int = 48) -> None:
        super().__init__()
        self.start = nn.Linear(LATENT + condition, width * 4 * 4)
        widths = (width, 48, 32, 24, 12)
        self.stages = nn.ModuleList(
            nn.Conv2d(channels, out, 3, padding=1) for channels, out in pairwise(widths)
        )
        self.last = nn.Conv2d(widths[-1], 3 * 2 * 2, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        """Map vectors ``(N, 100 + condition)`` to designs ``(N, 3, 128, 128)`` in [0, 1]."""
        maps = self.start(latent).view(len(latent), -1, 4, 4)
        for stage in self.stages:
            doubled = functional.interpolate(maps, scale_factor=2.0, mode="nearest")
            maps = functional.leaky_relu(stage(doubled), 0.2)
        designs: Tensor = functional.pixel_shuffle(self.last(maps), 2).sigmoid()
        return designs


class PixelGenerator(nn.Module):
    """One design, its pixels learned directly (the universal mask of Zolfi et al. 2022).

    It draws the same design for every latent vector: the reference for what a generator gives up.
    """

    def __init__(self, condition: int = 0) -> None:
        super().__init__()
        if condition:
            raise ValueError("one design for everybody cannot depend on its wearer")
        self.logits = nn.Parameter(torch.zeros(1, 3, SIDE, SIDE))

    def forward(self, latent: Tensor) -> Tensor:
        """Return the design once for each vector, ``(N, 3, 128, 128)`` in [0, 1]."""
        return self.logits.sigmoid().expand(len(latent), -1, -1, -1)


_GENERATORS: Mapping[str, Callable[[int], nn.Module]] = MappingProxyType(
    {
        "dense": DenseGenerator,
        "convolutional": ConvolutionalGenerator,
        "pixels": PixelGenerator,
    }
)
ARCHITECTURES: tuple[Architecture, ...] = ("dense", "convolutional", "pixels")


def build_generator(architecture: Architecture, *, seed: int, condition: int = 0) -> nn.Module:
    """Build a generator with fresh weights; ``condition`` is the length of a wearer's embedding.

    Raises ``ValueError`` for an unknown architecture.
    """
    if architecture not in _GENERATORS:
        raise ValueError(f"unknown generator {architecture!r}: use one of {ARCHITECTURES}")
    torch.manual_seed(seed)
    return _GENERATORS[architecture](condition)


def latents(count: int, generator: torch.Generator) -> Tensor:
    """Draw latent vectors ``(count, 100)`` from N(0, 1).

    One by one: of more vectors from the same seed, the first ones are the same.
    """
    return torch.stack([torch.randn(LATENT, generator=generator) for _ in range(count)])


def conditioned(latent: Tensor, embeddings: Tensor) -> Tensor:
    """Append wearers' embeddings ``(N, D)`` of length 1 to latent vectors: ``(N, 100 + D)``.

    Scaled to entries of variance 1 as the latent vector's, so that the generator heeds both.
    """
    return torch.cat([latent, embeddings * embeddings.shape[1] ** 0.5], 1)


def condition_of(weights: Mapping[str, Tensor]) -> int:
    """Return how long the embeddings are that a generator of these weights takes; 0: none."""
    for name in ("layers.0.weight", "start.weight"):
        if name in weights:
            return weights[name].shape[1] - LATENT
    return 0
