"""Faces that wear masks, and a small recognizer."""

import numpy as np
import pytest
import torch
from skimage import data
from torch import nn

from services.worker.faces.alignment import FRAME_POINTS
from services.worker.masks.wearers import Wearers, gather
from services.worker.models.recognizers import Recognizer, frozen


def tiny(seed: int = 0) -> Recognizer:
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 12, 7, stride=4),
        nn.Tanh(),
        nn.Conv2d(12, 16, 5, stride=4),
        nn.Flatten(),
        nn.Linear(16 * 6 * 6, 24, bias=False),
    )
    return frozen(
        Recognizer(network, identifier=f"tiny-{seed}", architecture="t", input_size=(112, 112))
    )


@pytest.fixture
def recognizer() -> Recognizer:
    return tiny()


@pytest.fixture
def another() -> Recognizer:
    """A recognizer of other weights."""
    return tiny(1)


@pytest.fixture(scope="session")
def wearers() -> Wearers:
    """Six people of three photos each: parts of a picture, each moved and lit a little."""
    astronaut = data.astronaut()
    rng = np.random.default_rng(0)
    found = []
    for person in range(6):
        x, y = 40 + 50 * person, 30 * person
        for _ in range(3):
            dx, dy = rng.integers(0, 5, 2)
            part = astronaut[y + dy : y + dy + 160, x + dx : x + dx + 160]
            light = np.clip(part * rng.uniform(0.9, 1.1), 0, 255).astype(np.uint8)
            found.append((f"person {person}", light, FRAME_POINTS + rng.normal(0, 1.5, (5, 2))))
    return gather(found)
