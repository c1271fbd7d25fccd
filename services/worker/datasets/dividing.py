"""Divides pictures into train, val and test, near-duplicates on one side."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from shared.dataset_card import LabeledBox, Split

_SHARES: tuple[tuple[Split, float], ...] = (("train", 0.7), ("val", 0.15), ("test", 0.15))
_LATER: dict[Split, int] = {"train": 0, "val": 1, "test": 2}


class Divisible(Protocol):
    """A picture that goes to a side."""

    split: Split | None
    label: str | None
    boxes: tuple[LabeledBox, ...]


def without_leaks(pictures: Sequence[Divisible], groups: Sequence[int]) -> list[int]:
    """Return the numbers of the pictures to keep: of each group those of its latest split."""
    latest: dict[int, int] = {}
    for picture, group in zip(pictures, groups, strict=True):
        latest[group] = max(latest.get(group, 0), _LATER[picture.split or "train"])
    return [
        number
        for number, (picture, group) in enumerate(zip(pictures, groups, strict=True))
        if _LATER[picture.split or "train"] == latest[group]
    ]


def draw_splits(pictures: Sequence[Divisible], groups: Sequence[int], seed: int) -> None:
    """Divide the groups of each class among the splits; a photo counts for its rarest class."""
    rarity = Counter(label for picture in pictures for label in _labels(picture))
    members: dict[int, list[Divisible]] = {}
    for picture, group in zip(pictures, groups, strict=True):
        members.setdefault(group, []).append(picture)
    by_class: dict[str, list[list[Divisible]]] = {}
    for alike in members.values():
        labels = [name for picture in alike for name in _labels(picture)]
        name = min(labels, key=lambda label: (rarity[label], label), default="")
        by_class.setdefault(name, []).append(alike)
    generator = np.random.default_rng(seed)
    for name in sorted(by_class):
        mine = by_class[name]
        total = sum(map(len, mine))
        done = 0
        for place in generator.permutation(len(mine)):
            middle = (done + len(mine[place]) / 2) / total
            done += len(mine[place])
            split = next(split for split, end in _ends() if middle < end)
            for picture in mine[place]:
                picture.split = split


def _labels(picture: Divisible) -> Iterator[str]:
    if picture.label:
        yield picture.label
    for box in picture.boxes:
        yield box.label


def _ends() -> Iterator[tuple[Split, float]]:
    end = 0.0
    for split, share in _SHARES:
        end += share
        yield split, end + (1.0 if split == _SHARES[-1][0] else 0.0)
