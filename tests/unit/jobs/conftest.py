"""A job's context without a database: photos in, artifacts out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from services.demo.photos import group, masked_portrait, portrait
from services.worker.runtime.cache import ModelCache
from shared.settings import Settings, load_settings

MODELS = ModelCache(2**30)


@dataclass
class FakeContext:
    """What job modules use of ``JobContext``."""

    photos: list[NDArray[np.uint8]]
    settings: Settings
    artifacts: dict[str, bytes] = field(default_factory=dict)
    reports: list[tuple[int, int, str]] = field(default_factory=list)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    models: ModelCache = MODELS
    job_id: str = "job_0"
    stop: Exception | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"img_{number:024x}" for number in range(len(self.photos)))

    def load_image(self, index: int, *, max_side: int | None = None) -> NDArray[np.uint8]:
        return self.photos[index]

    def put_artifact(self, name: str, data: bytes, media_type: str) -> str:
        self.artifacts[name] = data
        return name

    def check(self) -> None:
        if self.stop is not None:
            raise self.stop

    def progress(self, done: int, total: int, message: str = "", **data: Any) -> None:
        self.check()
        self.reports.append((done, total, message))


@pytest.fixture
def context_of(tmp_path: Path) -> Callable[..., FakeContext]:
    def make(*photos: Image.Image) -> FakeContext:
        settings = load_settings(data_dir=tmp_path)
        return FakeContext([np.array(photo.convert("RGB")) for photo in photos], settings)

    return make


@pytest.fixture(scope="session")
def bare() -> Image.Image:
    return portrait()


@pytest.fixture(scope="session")
def masked() -> Image.Image:
    return masked_portrait()


@pytest.fixture(scope="session")
def four_people() -> Image.Image:
    return group()
