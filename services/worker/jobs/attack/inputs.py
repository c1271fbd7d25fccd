"""What an ``attack`` job attacks: the faces of uploaded photos, or of those of a data set."""

from dataclasses import dataclass

import torch
from torch import Tensor

from services.worker.datasets.packs import SMALLEST_FACE, PackedDataset
from services.worker.faces.crops import Pixels, crop_faces, resize
from services.worker.jobs.kit.faces import Corners, Located, locate, require_crops
from services.worker.jobs.kit.mask_images import Mask, read_mask
from services.worker.models.registry import LoadedModel
from services.worker.runtime.context import JobContext
from shared.dataset_card import DatasetItem, LabeledBox
from shared.problems import Problem
from shared.specs.attack import AttackSpec

MOST_IMAGES = 10_000


@dataclass(frozen=True)
class Photo:
    """A photo uint8 ``(H, W, 3)`` and its faces.

    ``whole``: it is one face crop, stretched to the classifier's input. ``labels`` are the faces'
    true classes; ``None``: whatever the classifier says. ``allowed`` bool ``(H, W)``: which pixels
    its mask image lets change; ``None``: there is no such image.
    """

    name: str
    pixels: Pixels
    located: Located
    whole: bool
    labels: tuple[int, ...] | None
    allowed: Mask | None = None
    notes: tuple[str, ...] = ()

    @property
    def boxes(self) -> list[Corners]:
        return self.located.boxes

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = self.pixels.shape[:2]
        return width, height

    def crops(self, *, size: int, margin: float) -> Tensor:
        """Cut the faces as the classifier sees them: uint8 ``(N, 3, size, size)``."""
        if self.whole:
            faces = resize(self.pixels, size)[None]
        else:
            require_crops(len(self.boxes), size=size)
            faces = crop_faces(self.pixels, self.boxes, size=size, margin=margin)
        return (faces * 255).round().to(torch.uint8)


class Photos:
    """The photos of a job, decoded one at a time.

    Raises ``unknown-dataset``, and ``invalid-input`` for a label that the model does not know, a
    data set without any that it does, or a mask image that is black or not of its photo's size.
    """

    def __init__(self, context: JobContext, spec: AttackSpec, loaded: LoadedModel) -> None:
        self._context, self._spec = context, spec
        self._classes = loaded.card.classes
        self._label = label_number(spec.label, self._classes, "label")
        self._pack: PackedDataset | None = None
        self._items: tuple[DatasetItem, ...] = ()
        self.warnings: tuple[str, ...] = ()
        if spec.data is not None:
            self._pack = PackedDataset(context.inputs.dataset(spec.data.dataset))
            self._items = self._chosen(self._pack, loaded.card.id)

    def __len__(self) -> int:
        return len(self._items) if self._pack else len(self._spec.images)

    @property
    def labeled(self) -> bool:
        """Whether true labels are known."""
        return self._pack is not None or self._label is not None

    def read(self, index: int) -> Photo:
        """Decode a photo and locate its faces."""
        if self._pack is not None:
            return self._of_pack(self._pack, self._items[index])
        pixels = self._context.inputs.image(index)
        located = locate(self._context, self._spec, index, pixels)
        labels = None if self._label is None else (self._label,) * len(located.boxes)
        whole = self._spec.faces == "whole"
        allowed = self._allowed(index, pixels)
        notes = self._context.inputs.notes(index)
        return Photo(self._spec.images[index], pixels, located, whole, labels, allowed, notes)

    def _allowed(self, index: int, pixels: Pixels) -> Mask | None:
        """Read the mask image of a photo; raises ``invalid-input`` for one that does not fit."""
        name = self._spec.mask_image(index)
        if name is None:
            return None
        return read_mask(self._context, self._spec, name, pixels, of=self._spec.images[index])

    def _of_pack(self, pack: PackedDataset, item: DatasetItem) -> Photo:
        self._context.check()
        pixels = pack.read(item)
        if pack.card.layout != "boxes":
            height, width = pixels.shape[:2]
            boxes = [(0.0, 0.0, float(width), float(height))]
            labels: tuple[int, ...] = (self._classes.index(item.label or ""),)
        else:
            wanted = self._wanted(item)
            boxes = [(box.x0, box.y0, box.x1, box.y1) for box in wanted]
            labels = tuple(self._classes.index(box.label) for box in wanted)
        located = Located(boxes, [None] * len(boxes))
        return Photo(item.name, pixels, located, pack.card.layout != "boxes", labels)

    def _wanted(self, item: DatasetItem) -> list[LabeledBox]:
        # Those that ``evaluate`` judges by, too.
        return [
            box
            for box in item.boxes
            if box.label in self._classes and min(box.x1 - box.x0, box.y1 - box.y0) >= SMALLEST_FACE
        ]

    def _chosen(self, pack: PackedDataset, model_id: str) -> tuple[DatasetItem, ...]:
        data = self._spec.data
        assert data is not None  # noqa: S101 - there is a pack
        sample = pack.items(data.split, sample=data.sample, seed=data.seed)
        boxes = pack.card.layout == "boxes"
        found = tuple(
            item
            for item in sample
            if (self._wanted(item) if boxes else item.label in self._classes)
        )
        if not found:
            raise Problem(
                "invalid-input",
                f"There are no images of {', '.join(self._classes)} to attack {model_id} on.",
            )
        if len(found) > MOST_IMAGES:
            raise Problem(
                "invalid-input",
                f"That is {len(found)} images, and a job attacks {MOST_IMAGES} at most: name a "
                "`sample`.",
            )
        unknown = sorted(set(pack.card.classes) - set(self._classes))
        if unknown and pack.card.layout != "identities":
            self.warnings = (f"{model_id} has no class {', '.join(unknown)}: images skipped",)
        return found


def label_number(name: str | None, classes: tuple[str, ...], what: str) -> int | None:
    """Return the number of a class; raises ``invalid-input`` for one that the model lacks."""
    if name is None:
        return None
    if name not in classes:
        raise Problem(
            "invalid-input",
            f"The {what} {name!r} is not a label of this model: {', '.join(classes)}.",
        )
    return classes.index(name)
