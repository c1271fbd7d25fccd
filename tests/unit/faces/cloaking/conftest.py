"""Small recognizers with fixed random weights, and faces."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from skimage import data
from torch import nn

from services.worker.models.recognizers import Recognizer, frozen
from services.worker.models.recognizers import recognizer_of as recognizer_of_card
from services.worker.models.registry import find_models

Make = Callable[..., Recognizer]


@pytest.fixture
def recognizer_of() -> Make:
    def make(seed: int = 0, dimensions: int = 16) -> Recognizer:
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(3, 12, 5, stride=2),
            nn.Tanh(),
            nn.Conv2d(12, 16, 5, stride=4),
            nn.Tanh(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(256, dimensions, bias=False),
        )
        return frozen(
            Recognizer(
                network, identifier=f"tiny-{seed}", architecture="tiny", input_size=(112, 112)
            )
        )

    return make


@pytest.fixture(scope="session")
def trained() -> Recognizer:
    """A recognizer that ships: fresh weights hardly tell one picture from another."""
    return recognizer_of_card(*find_models()["face-residual-112"])


@pytest.fixture(scope="session")
def frames() -> torch.Tensor:
    """Three aligned-looking frames ``(3, 3, 160, 160)``."""
    astronaut = data.astronaut()
    parts = [astronaut[y : y + 160, x : x + 160] for y, x in ((20, 145), (30, 130), (200, 200))]
    return torch.from_numpy(np.stack(parts)).permute(0, 3, 1, 2).float() / 255
