"""What a defense is: a transformation that stands between a picture and its classifier."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor


class Defense(ABC):
    """Transforms images ``(N, 3, H, W)``, float RGB in [0, 1], before they are classified.

    The result has the same range and, unless the defense resizes, the same shape. Images are taken
    and given back on the 8-bit grid by every defense but ``noise``.
    ``deterministic`` says that ``seed`` does not matter; where it does, an image's randomness
    derives from ``(seed, its index)`` and never from the rest of the batch. A caller that must be
    able to stop applies a defense to a few images at a time.
    """

    name: ClassVar[str]
    deterministic: bool = True

    @abstractmethod
    def apply(
        self, images: Tensor, *, seed: int = 0, indices: Sequence[int] | None = None
    ) -> Tensor:
        """Return defended images; the input is left alone.

        ``indices`` number the images for the randomness (default 0, 1, …).
        """

    def differentiable(
        self, images: Tensor, *, seed: int = 0, indices: Sequence[int] | None = None
    ) -> Tensor:
        """Return what ``apply`` returns, with a gradient to attack through (BPDA).

        Backward pass differentiable approximation, Athalye, Carlini and Wagner (2018): the forward
        pass is the defense itself, the backward pass that of a surrogate. Here the surrogate is
        the identity; a defense that moves pixels brings its own.
        """
        defended = self.apply(images.detach(), seed=seed, indices=indices)
        return straight_through(images, defended)


class FixedDefense(Defense):
    """A defense without randomness: a subclass brings ``transform`` alone."""

    @abstractmethod
    def transform(self, images: Tensor) -> Tensor:
        """Return defended images; the input is left alone."""

    def apply(
        self, images: Tensor, *, seed: int = 0, indices: Sequence[int] | None = None
    ) -> Tensor:
        """Return ``transform(images)``; ``seed`` and ``indices`` do not matter."""
        del seed, indices
        return self.transform(images)


class Chain(Defense):
    """Applies defenses one after the other."""

    name = "chain"

    def __init__(self, defenses: Sequence[Defense]) -> None:
        if not defenses:
            raise ValueError("a chain needs at least one defense")
        self.defenses = tuple(defenses)
        self.deterministic = all(defense.deterministic for defense in defenses)

    def apply(
        self, images: Tensor, *, seed: int = 0, indices: Sequence[int] | None = None
    ) -> Tensor:
        for number, defense in enumerate(self.defenses):
            images = defense.apply(images, seed=derive(seed, number), indices=indices)
        return images

    def differentiable(
        self, images: Tensor, *, seed: int = 0, indices: Sequence[int] | None = None
    ) -> Tensor:
        for number, defense in enumerate(self.defenses):
            images = defense.differentiable(images, seed=derive(seed, number), indices=indices)
        return images


def straight_through(surrogate: Tensor, value: Tensor) -> Tensor:
    """Return ``value`` exactly, with the gradient of ``surrogate`` of the same shape."""
    result: Tensor = _StraightThrough.apply(surrogate, value)
    return result


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(context: object, surrogate: Tensor, value: Tensor) -> Tensor:
        del context
        if surrogate.shape != value.shape:
            raise ValueError(
                f"a surrogate of shape {tuple(surrogate.shape)} cannot stand for "
                f"{tuple(value.shape)}"
            )
        return value.clone()

    @staticmethod
    def backward(context: object, *gradients: Tensor) -> tuple[Tensor, None]:
        del context
        return gradients[0], None


def derive(seed: int, *path: int) -> int:
    """Return a seed for a numbered part of what ``seed`` stands for."""
    return int(np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)[0] >> 1)


def generators(seed: int, count: int, indices: Sequence[int] | None) -> list[torch.Generator]:
    """Return one generator an image, from ``(seed, index)``."""
    numbers = range(count) if indices is None else indices
    if len(numbers) != count:
        raise ValueError(f"{len(numbers)} indices do not number {count} images")
    return [torch.Generator().manual_seed(derive(seed, number)) for number in numbers]
