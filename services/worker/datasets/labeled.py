"""Labeled images, decoded once and kept as bytes in memory."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from defusedxml import ElementTree
from PIL import Image
from torch import Tensor

from services.worker.faces.crops import Pixels, crop_face, resize

Cancel = Callable[[], None]


@dataclass(frozen=True)
class LabeledImages:
    """Images uint8 ``(N, 3, S, S)``, labels ``(N,)`` in ``0 … C - 1``, and where each came from.

    ``groups`` names the photo each image was cut from: images of one group stay on one side of
    every split.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over pixels and labels."""
        digest = hashlib.sha256(self.images.numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()

    @property
    def counts(self) -> dict[str, int]:
        """Images by class."""
        return {name: int((self.labels == i).sum()) for i, name in enumerate(self.classes)}

    def select(self, indices: Sequence[int]) -> "LabeledImages":
        """Return the images at ``indices``."""
        which = torch.as_tensor(list(indices), dtype=torch.long)
        groups = tuple(self.groups[i] for i in indices)
        return LabeledImages(self.images[which], self.labels[which], self.classes, groups)

    def split(self, share: float, *, seed: int) -> tuple["LabeledImages", "LabeledImages"]:
        """Split by group: about ``1 - share`` of the groups, and the rest."""
        names = sorted(set(self.groups))
        order = np.random.default_rng(seed).permutation(len(names))
        held = {names[i] for i in order[: round(share * len(names))]}
        inside = [i for i, group in enumerate(self.groups) if group not in held]
        outside = [i for i, group in enumerate(self.groups) if group in held]
        return self.select(inside), self.select(outside)


def join(*parts: LabeledImages) -> LabeledImages:
    """Put sets with the same classes and size together."""
    if len({part.classes for part in parts}) != 1:
        raise ValueError("only sets with the same classes can be joined")
    return LabeledImages(
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
        parts[0].classes,
        tuple(group for part in parts for group in part.groups),
    )


def read_rgb(path: Path) -> Pixels:
    """Read a photo of a trusted data set as uint8 RGB ``(H, W, 3)``."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def load_class_folders(root: Path, classes: Sequence[str], *, size: int) -> LabeledImages:
    """Load ``<root>/<class>/*``, each image stretched to ``size`` x ``size``."""
    images, labels, groups = [], [], []
    for label, name in enumerate(classes):
        for path in sorted((root / name).iterdir()):
            images.append(_bytes(resize(read_rgb(path), size)))
            labels.append(label)
            groups.append(f"{root.name}/{name}/{path.stem}")
    return _collect(images, labels, classes, groups, size)


def load_voc_faces(
    root: Path, classes: Sequence[str], *, size: int, margin: float, smallest: int = 10
) -> LabeledImages:
    """Load face crops of ``<root>/images`` with Pascal VOC boxes in ``<root>/annotations``.

    Boxes of other classes, and those under ``smallest`` pixels, are left out.
    """
    images, labels, groups = [], [], []
    for path in sorted((root / "annotations").glob("*.xml")):
        photo = read_rgb(root / "images" / f"{path.stem}.jpg")
        for name, box in read_voc(path):
            if name not in classes or min(box[2] - box[0], box[3] - box[1]) < smallest:
                continue
            images.append(_bytes(crop_face(photo, box, size=size, margin=margin)))
            labels.append(classes.index(name))
            groups.append(f"{root.name}/{path.stem}")
    return _collect(images, labels, classes, groups, size)


def read_voc(path: Path) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Read the labeled boxes ``(x0, y0, x1, y1)`` of a Pascal VOC file."""
    root = ElementTree.parse(path).getroot()
    if root is None:
        raise ValueError(f"{path.name} is empty")
    found = []
    for entry in root.iter("object"):
        corners = entry.find("bndbox")
        if corners is None:
            raise ValueError(f"{path.name}: an object without a box")
        x0, y0, x1, y1 = (
            float(corners.findtext(key, "nan")) for key in ("xmin", "ymin", "xmax", "ymax")
        )
        found.append((entry.findtext("name", ""), (x0, y0, x1, y1)))
    return found


def _bytes(image: Tensor) -> Tensor:
    return (image * 255).round().byte()


def _collect(
    images: list[Tensor], labels: list[int], classes: Sequence[str], groups: list[str], size: int
) -> LabeledImages:
    pixels = torch.stack(images) if images else torch.empty(0, 3, size, size, dtype=torch.uint8)
    return LabeledImages(pixels, torch.tensor(labels), tuple(classes), tuple(groups))
