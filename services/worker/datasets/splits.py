"""Training, validation and test sides of labeled images, with near-duplicates on one side."""

import hashlib
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from services.worker.datasets.labeled import LabeledImages, join

# The training, validation and test images of one data set.
Splits = tuple[LabeledImages, LabeledImages, LabeledImages]


@dataclass(frozen=True)
class Sides:
    """The three sides. ``test`` may be empty; it is for the last figure, never for a choice.

    ``left_out`` counts the images whose near-duplicate lies on a side that counts for more: the
    test side keeps all, the validation side what is not in the test's. ``carved`` says that
    validation images were held out of a training split.
    """

    train: LabeledImages
    val: LabeledImages
    test: LabeledImages
    left_out: int
    carved: bool


def arrange(*sets: Splits, share: float = 0.15, seed: int = 0) -> Sides:
    """Put data sets' splits together, with near-duplicates on one side.

    From a set without validation images about ``share`` of its training photos are held out, so
    that every set has its say. Images belong together when they share a group, or are equal to the
    last pixel. Raises ``ValueError`` when a class has no image to train on, or nothing is left to
    validate with.
    """
    joined = _with_equal_pixels_joined(*(part for splits in sets for part in splits))
    tests = joined[2::3]
    test = join(*tests)
    before = sum(map(len, joined)) - len(test)
    trains, vals = [], []
    carved = False
    for train, val in zip(joined[0::3], joined[1::3], strict=True):
        learned, held = _without(train, test), _without(val, test)
        if not len(held) and len(learned):
            learned, held = carve(learned, share, seed=seed)
            carved = True
        trains.append(learned)
        vals.append(held)
    val = join(*vals)
    train = _without(join(*trains), val)
    for name, count in train.counts.items():
        if not count:
            raise ValueError(f"there is no training image of the class {name!r}")
    if not len(val):
        raise ValueError("there are too few images to hold some out for validation")
    return Sides(train, val, test, before - len(train) - len(val), carved)


def carve(data: LabeledImages, share: float, *, seed: int) -> tuple[LabeledImages, LabeledImages]:
    """Split by group, about ``share`` of the groups of every class held out.

    A group counts for the rarest class among its images. A class of one group stays whole.
    """
    sizes = np.bincount(data.labels.numpy(), minlength=len(data.classes))
    rarest: dict[str, int] = {}
    for group, label in zip(data.groups, data.labels.tolist(), strict=True):
        if group not in rarest or sizes[label] < sizes[rarest[group]]:
            rarest[group] = label
    held: set[str] = set()
    random = np.random.default_rng(seed)
    for label in range(len(data.classes)):
        names = sorted(group for group, own in rarest.items() if own == label)
        count = min(len(names) - 1, max(1, round(share * len(names))))
        if count > 0:
            held |= {names[i] for i in random.permutation(len(names))[:count]}
    inside = [i for i, group in enumerate(data.groups) if group not in held]
    outside = [i for i, group in enumerate(data.groups) if group in held]
    return data.select(inside), data.select(outside)


def _without(data: LabeledImages, other: LabeledImages) -> LabeledImages:
    taken = set(other.groups)
    return data.select([i for i, group in enumerate(data.groups) if group not in taken])


def _with_equal_pixels_joined(*parts: LabeledImages) -> list[LabeledImages]:
    """Give one group to images that are equal, and to all that share a group with one of them."""
    parent: dict[str, str] = {}

    def root(group: str) -> str:
        while parent.setdefault(group, group) != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    first: dict[bytes, str] = {}
    for part in parts:
        for group, image in zip(part.groups, part.images, strict=True):
            parent[root(group)] = root(first.setdefault(_digest(image), group))
    return [
        LabeledImages(part.images, part.labels, part.classes, tuple(map(root, part.groups)))
        for part in parts
    ]


def _digest(image: Tensor) -> bytes:
    return hashlib.sha256(image.contiguous().numpy().tobytes()).digest()
