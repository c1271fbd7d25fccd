"""The card of a data set: what it holds, image by image. Imports pydantic only."""

from collections import Counter
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

CARD_FILE = "card.json"
PACK_FILE = "pack.zip"
CONTACT_SHEET_FILE = "contact-sheet.jpg"

Layout = Literal["classes", "boxes", "identities"]
Split = Literal["train", "val", "test"]


class LabeledBox(BaseModel):
    """A face in a photo: corners in pixels of the upright photo, and its class."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str
    x0: float
    y0: float
    x1: float
    y1: float


class DatasetItem(BaseModel):
    """One image of a data set. ``name`` is its member in the pack."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    width: int
    height: int
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the bytes in the pack")
    orientation: int = Field(default=1, ge=1, le=8)
    split: Split = "train"
    label: str | None = Field(default=None, description="class or person; none where boxes say it")
    boxes: tuple[LabeledBox, ...] = ()
    group: int = Field(description="near-duplicates share it and stay on one side of a split")
    source: str = Field(default="", description="the part of the collection that it came from")
    path: str = Field(default="", description="where it lay in what was sent")


class DatasetCard(BaseModel):
    """The document beside a data set's images."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^ds_[0-9a-f]{24}$")
    name: str = Field(max_length=200)
    layout: Layout
    classes: tuple[str, ...] = Field(description="in order of their label numbers")
    items: tuple[DatasetItem, ...]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return labeled examples (images, or boxes) by split and class."""
        found: dict[str, Counter[str]] = {}
        for item in self.items:
            labels = [box.label for box in item.boxes] if self.layout == "boxes" else [item.label]
            split = found.setdefault(item.split, Counter())
            split.update(label for label in labels if label is not None)
        return {
            split: {name: counter[name] for name in self.classes}
            for split, counter in sorted(found.items())
        }
