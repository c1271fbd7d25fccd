"""The card of a model: what it is, what made it, how well it does. Imports pydantic only."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

CARD_FILE = "card.json"
WEIGHTS_FILE = "model.safetensors"
Place = tuple[float, float, float]


class Preprocessing(BaseModel):
    """How a foreign recognizer takes faces: what an ONNX file does not say itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: float = Field(0.5, ge=0, le=1, description="taken from samples in [0, 1]")
    std: float = Field(0.5, gt=0, le=10, description="they are divided by it then")
    colors: Literal["rgb", "bgr"] = "rgb"
    window: Place | None = Field(
        None,
        description=(
            "left, top and side, in pixels, of the part of the 160 px aligned face that it takes; "
            "null: ArcFace's crop of 112 px"
        ),
    )

    @field_validator("window")
    @classmethod
    def _inside(cls, window: Place | None) -> Place | None:
        if window is not None:
            left, top, side = window
            if not (side >= 16 and min(left, top) >= 0 and max(left, top) + side <= 160):
                raise ValueError("the window lies in the 160 px frame, with a side from 16")
        return window


class ModelCard(BaseModel):
    """The metadata document beside a model's safetensors file."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")
    task: str = Field(description="`mask`: with or without; `mask3`: also worn incorrectly")
    architecture: str
    classes: tuple[str, ...]
    input_size: tuple[int, int] = Field(description="height and width in pixels")
    crop_margin: float = Field(description="of the face's size, added on each side of its box")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the weights file")
    size: int = Field(description="of the weights file, in bytes")
    license: str
    training_data: dict[str, Any] = Field(description="sources, counts and fingerprint")
    lineage: tuple[str, ...] = Field((), description="models it was initialized or distilled from")
    training: dict[str, Any] = Field(description="settings of the run that made it")
    metrics: dict[str, Any] = {}
    threat_model: dict[str, Any] = Field({}, description="attacks it was tested against")
    preprocessing: dict[str, Any] = Field(
        {}, description="recognizers of ONNX files: see `Preprocessing`; others know their own"
    )
    default: bool = Field(False, description="whether it serves its task unless another is named")

    @property
    def identity(self) -> str:
        """A hash of the whole card: the same weights may have other labels, or another margin."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def read_card(folder: Path) -> ModelCard:
    """Read the card in a model's folder."""
    path = folder / CARD_FILE
    status = path.stat()
    return _parsed(path, status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(maxsize=256)
def _parsed(path: Path, *version: int) -> ModelCard:
    """Parse a card once for each version of its file: every job asks for all of them."""
    del version
    return ModelCard.model_validate_json(path.read_bytes())


def list_cards(*roots: Path) -> dict[str, tuple[ModelCard, Path]]:
    """Return ``{id: (card, folder)}`` of all models under the roots; the first root wins."""
    found: dict[str, tuple[ModelCard, Path]] = {}
    for root in roots:
        folders = sorted(root.iterdir()) if root.is_dir() else []
        for folder in folders:
            if (folder / CARD_FILE).is_file():
                card = read_card(folder)
                found.setdefault(card.id, (card, folder))
    return found
