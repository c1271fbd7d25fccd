"""The images that a ``train`` job learns from, chooses by, and is judged on."""

import os
from collections.abc import Sequence
from typing import Literal

import torch

from services.worker.datasets.labeled import LabeledImages
from services.worker.datasets.packs import PackedDataset, Progress
from services.worker.datasets.splits import Sides, arrange
from services.worker.runtime.context import JobContext
from shared.dataset_card import DatasetCard
from shared.problems import Problem
from shared.specs.train import TASK_CLASSES, TrainSpec

MEMORY_SHARE = 0.5

Side = Literal["train", "val", "test"]


def load_packs(context: JobContext, spec: TrainSpec) -> list[PackedDataset]:
    """Load the data sets that the spec names."""
    return [PackedDataset(context.inputs.dataset(name)) for name in spec.datasets]


def class_names(spec: TrainSpec, packs: Sequence[PackedDataset]) -> tuple[str, ...]:
    """Return the classes to learn, in the order of their label numbers."""
    named = spec.classes or TASK_CLASSES.get(spec.task)
    if named is not None:
        return tuple(named)
    found = (spec.rename.get(name, name) for name in packs[0].card.classes)
    names = tuple(dict.fromkeys(found))
    if len(names) < 2:
        raise Problem("invalid-input", "The first data set has only one class: name `classes`.")
    return names


def count(spec: TrainSpec, packs: Sequence[PackedDataset], names: Sequence[str]) -> dict[str, int]:
    """Return how many labeled images each split has, by the data sets' cards."""
    totals = {"train": 0, "val": 0, "test": 0}
    for pack in packs:
        for split, labels in pack.card.counts().items():
            totals[split] += sum(
                number for label, number in labels.items() if spec.rename.get(label, label) in names
            )
    return totals


def refuse_too_many(images: int, size: int) -> None:
    """Raise the problem ``invalid-input`` when the images would not fit into memory."""
    wanted = images * 3 * size**2
    free = MEMORY_SHARE * _memory_bytes()
    if wanted > free:
        raise Problem(
            "invalid-input",
            f"{images} images of {size} px take {wanted / 2**30:.1f} GiB of this worker's memory, "
            f"and {free / 2**30:.1f} GiB may be used: take fewer, or a smaller `input_size`.",
        )


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def read_sides(
    context: JobContext,
    spec: TrainSpec,
    packs: Sequence[PackedDataset],
    names: tuple[str, ...],
    *,
    size: int,
) -> Sides:
    """Decode all images and arrange them; near-duplicates end up on one side."""
    total = sum(len(pack.card.items) for pack in packs)
    done = 0

    def read(pack: PackedDataset, split: Side) -> LabeledImages:
        nonlocal done
        before = done

        def progress(number: int, of: int) -> None:
            nonlocal done
            del of
            done = before + number
            context.progress(0, 1, f"reading the images: {done} of {total}")

        return _renamed(pack, split, spec, names, size=size, progress=progress)

    sets = [(read(pack, "train"), read(pack, "val"), read(pack, "test")) for pack in packs]
    return arrange(*sets, share=spec.validation_share, seed=spec.seed)


def _renamed(
    pack: PackedDataset,
    split: Side,
    spec: TrainSpec,
    names: tuple[str, ...],
    *,
    size: int,
    progress: Progress,
) -> LabeledImages:
    sources = _sources(pack.card, spec, names)
    found = pack.labeled(
        split, size=size, margin=spec.crop_margin, classes=tuple(sources), progress=progress
    )
    numbers = torch.tensor([names.index(target) for target in sources.values()], dtype=torch.long)
    labels = numbers[found.labels] if len(found) else found.labels
    return LabeledImages(found.images, labels, names, found.groups)


def _sources(card: DatasetCard, spec: TrainSpec, names: tuple[str, ...]) -> dict[str, str]:
    """Return the data set's own labels that are learned, each with the class it stands for."""
    targets = {label: spec.rename.get(label, label) for label in card.classes}
    return {label: target for label, target in targets.items() if target in names}
