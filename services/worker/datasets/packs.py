"""Data sets as packs: one uncompressed ZIP of clean images with the card that lists them."""

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from services.worker.datasets.labeled import LabeledImages
from services.worker.datasets.pack_file import write_pack_file
from services.worker.faces.crops import Pixels, crop_face, resize
from shared.dataset_card import CARD_FILE, DatasetCard, DatasetItem, LabeledBox, Split
from shared.images import ImageLimits, decode_rgb

SMALLEST_FACE = 10

Progress = Callable[[int, int], None]


class PackedDataset:
    """A data set in memory; images are decoded when they are read.

    Raises ``ValueError`` for bytes that are not a pack.
    """

    def __init__(self, data: bytes) -> None:
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
            self.card = DatasetCard.model_validate_json(self._archive.read(CARD_FILE))
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            raise ValueError(f"not a pack of images: {error}") from error

    def read(self, item: DatasetItem) -> Pixels:
        """Decode an image: upright sRGB uint8 ``(H, W, 3)``."""
        data = self._archive.read(item.name)
        if hashlib.sha256(data).hexdigest() != item.sha256:
            raise ValueError(f"{item.name} is not the image that the card lists")
        return decode_rgb(data, item.orientation, limits=ImageLimits(max_pixels=2**28))

    def items(
        self,
        split: Split | Literal["all"] = "all",
        *,
        sample: int | None = None,
        seed: int = 0,
    ) -> tuple[DatasetItem, ...]:
        """Return the items of a split, or a seeded sample of them, in the card's order."""
        found = [item for item in self.card.items if split in ("all", item.split)]
        if sample is not None and sample < len(found):
            chosen = np.random.default_rng(seed).choice(len(found), size=sample, replace=False)
            found = [found[number] for number in sorted(chosen)]
        return tuple(found)

    def labeled(
        self,
        split: Split | Literal["all"] = "all",
        *,
        size: int,
        margin: float = 0.0,
        classes: Sequence[str] | None = None,
        sample: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> LabeledImages:
        """Return labeled images: whole ones, or face crops with ``margin`` where boxes are given.

        ``classes`` gives the label numbers (default: the card's); examples of other classes, and
        faces under ``SMALLEST_FACE`` pixels, are left out. ``groups`` are those of
        near-duplicates.
        """
        names = tuple(classes) if classes is not None else self.card.classes
        images: list[Tensor] = []
        labels: list[int] = []
        groups: list[str] = []
        chosen = self.items(split, sample=sample, seed=seed)
        for number, item in enumerate(chosen):
            for label, image in self._examples(item, names, size, margin):
                images.append((image * 255).round().byte())
                labels.append(label)
                groups.append(f"{self.card.id}/{item.group}")
            if progress is not None:
                progress(number + 1, len(chosen))
        pixels = torch.stack(images) if images else torch.empty(0, 3, size, size, dtype=torch.uint8)
        return LabeledImages(pixels, torch.tensor(labels, dtype=torch.long), names, tuple(groups))

    def sources(
        self,
        split: Split | Literal["all"] = "all",
        *,
        classes: Sequence[str],
        sample: int | None = None,
        seed: int = 0,
    ) -> tuple[str, ...]:
        """Return the source of each image that ``labeled`` returns for the same choice."""
        found: list[str] = []
        for item in self.items(split, sample=sample, seed=seed):
            is_whole = self.card.layout != "boxes"
            count = int(item.label in classes) if is_whole else len(_wanted(item, classes))
            # Cards of before have no paths: there they stood in the place of the source.
            source = item.source if item.path else ""
            found += [source or self.card.name] * count
        return tuple(found)

    def _examples(
        self, item: DatasetItem, names: tuple[str, ...], size: int, margin: float
    ) -> Iterator[tuple[int, Tensor]]:
        if self.card.layout != "boxes":
            if item.label in names:
                yield names.index(item.label), resize(self.read(item), size)
            return
        wanted = _wanted(item, names)
        if not wanted:
            return
        photo = self.read(item)
        for box in wanted:
            corners = (box.x0, box.y0, box.x1, box.y1)
            yield names.index(box.label), crop_face(photo, corners, size=size, margin=margin)


def _wanted(item: DatasetItem, names: Sequence[str]) -> list[LabeledBox]:
    """Return the faces of these classes that are large enough to be seen."""
    return [
        box
        for box in item.boxes
        if box.label in names and min(box.x1 - box.x0, box.y1 - box.y0) >= SMALLEST_FACE
    ]


def write_pack(card: DatasetCard, images: Iterable[tuple[str, bytes]]) -> bytes:
    """Return the pack of a card and its images ``(name, clean bytes)``; same input, same bytes."""
    buffer = io.BytesIO()
    write_pack_file(buffer, card, images)
    return buffer.getvalue()
