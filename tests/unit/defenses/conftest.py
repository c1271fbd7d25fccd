"""Pictures and classifiers for the tests of defenses."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from services.worker.models.base import Classifier

CLASSES = ("with_mask", "without_mask")


class Linear(nn.Module):
    """Logits from a fixed random projection of the pixels."""

    def __init__(self, side: int) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(2, 3 * side * side, generator=source) * 0.1)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T


@pytest.fixture
def linear() -> Callable[[int], Classifier]:
    """Return a builder of linear classifiers of square images, by side."""

    def build(side: int) -> Classifier:
        network = Linear(side)
        classifier = Classifier(
            network, architecture="linear", classes=CLASSES, input_size=(side, side)
        )
        return classifier.eval().requires_grad_(False)

    return build


@pytest.fixture
def pictures() -> Callable[..., Tensor]:
    """Return a maker of pictures (N, 3, side, side): smooth shapes with a little grain."""

    def make(count: int = 3, side: int = 24, seed: int = 0) -> Tensor:
        source = torch.Generator().manual_seed(seed)
        coarse = torch.rand(count, 3, 5, 5, generator=source)
        smooth = nn.functional.interpolate(coarse, (side, side), mode="bicubic")
        grain = torch.randn(count, 3, side, side, generator=source) * 0.01
        return ((smooth + grain).clamp(0, 1) * 255).round() / 255

    return make
