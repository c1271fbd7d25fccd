"""A job's context without a database: photos in, artifacts out."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from services.demo.photos import group, masked_portrait, portrait
from services.worker.runtime.cache import ModelCache
from shared.dataset_card import DatasetCard
from shared.model_card import ModelCard
from shared.settings import Settings, load_settings

MODELS = ModelCache(2**30)


class FakeArtifacts(dict[str, bytes]):
    """The stored files by name."""

    context: "FakeContext"

    def put(
        self,
        name: str,
        data: bytes,
        media_type: str,
        *,
        image: int | None = None,
        stopped: bool = False,
    ) -> str:
        del media_type
        if not stopped:
            self.context.check()
        self[name] = data
        self.context.made_of[name] = image
        return name

    def take_over(
        self, name: str, media_type: str, *, attempt: int, image: int | None = None
    ) -> bool:
        del media_type, attempt
        if name in self:
            self.context.made_of[name] = image
        return name in self


@dataclass
class FakeContext:
    """What job modules use of ``JobContext``."""

    photos: list[NDArray[np.uint8]]
    settings: Settings
    artifacts: "FakeArtifacts" = field(default_factory=FakeArtifacts)
    made_of: dict[str, int | None] = field(default_factory=dict)  # the image of each artifact
    reports: list[tuple[int, int, str]] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)  # that came with the reports
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    models: ModelCache = MODELS
    job_id: str = "job_0"
    tenant_id: str = "default"
    attempt: int = 1
    files: list[tuple[bytes, int]] = field(default_factory=list)  # and their orientations
    said: tuple[str, ...] = ()  # when the first image was taken in
    stop: BaseException | None = None
    # as the registry keeps them: data sets' packs, and cards with their weights
    packs: dict[str, bytes] = field(default_factory=dict)
    registered: dict[str, tuple[ModelCard, bytes]] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)
    checkpoint: dict[str, bytes] | None = None
    uploaded: bytes = b""

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"img_{number:024x}" for number in range(len(self.photos)))

    def notes(self, index: int) -> tuple[str, ...]:
        return self.said if not index else ()

    def image(self, index: int, *, max_side: int | None = None) -> NDArray[np.uint8]:
        return self.photos[index]

    def file(self, index: int) -> tuple[bytes, int]:
        if self.files:
            return self.files[index]
        buffer = io.BytesIO()
        Image.fromarray(self.photos[index]).save(buffer, "PNG")
        return buffer.getvalue(), 1

    def __post_init__(self) -> None:
        self.artifacts.context = self

    @property
    def inputs(self) -> "FakeContext":
        """One object plays all parts of a context."""
        return self

    checkpoints = registry = inputs

    @contextmanager
    def upload(self) -> Iterator[IO[bytes]]:
        with TemporaryFile() as file:  # as in a worker: videos are opened by descriptor
            file.write(self.uploaded)
            file.seek(0)
            yield file

    def dataset(self, dataset_id: str) -> bytes:
        return self.packs[dataset_id]

    def save_dataset(self, card: DatasetCard, pack: bytes, **fields: Any) -> None:
        self.packs[card.id] = pack

    def save_model(self, card: ModelCard, weights: bytes, *, stopped: bool = False) -> None:
        if not stopped:
            self.check()
        self.registered[card.id] = card, weights

    def model(self, model_id: str) -> tuple[ModelCard, Callable[[], bytes]] | None:
        if model_id not in self.registered:
            return None
        card, weights = self.registered[model_id]
        return card, lambda: weights

    def default_model_id(self, task: str) -> str | None:
        return self.defaults.get(task)

    def event(self, kind: str, data: dict[str, Any]) -> None:
        self.check()
        self.events.append((kind, data))

    def save(self, files: dict[str, bytes]) -> None:
        self.checkpoint = dict(files)

    def load(self) -> dict[str, bytes] | None:
        return self.checkpoint

    def check(self) -> None:
        if self.stop is not None:
            raise self.stop

    def progress(self, done: int, total: int, message: str = "", **data: Any) -> None:
        self.check()
        self.reports.append((done, total, message))
        self.figures.append(data)


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
