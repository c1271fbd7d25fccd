"""One collection teaches, two judge: neither test folder has a part in the model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from research.measure import cross_source
from research.measure.cross_source import across
from research.train.classifiers import BINARY, Recipe
from services.worker.training.config import TrainConfig
from services.worker.training.history import Trained
from tests.unit.datasets.test_labeled import COLORS, voc

RECIPE = Recipe(
    id="tiny",
    task="mask",
    architecture="cnn",
    size=16,
    classes=BINARY,
    config=TrainConfig(epochs=4, batch_size=8, max_lr=3e-3, seed=0),
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Pictures in the color of their class; in the other collection one face is mislabeled."""
    random = np.random.default_rng(0)
    for part, count in (("train", 16), ("val", 4), ("test", 3)):
        for name, color in COLORS.items():
            folder = tmp_path / "mask_classification" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                noise = random.integers(-30, 30, (20, 20, 3))
                pixels = (np.array(color) + noise).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    boxes = [(10, 10, 40, 40), (50, 10, 80, 40), (90, 10, 120, 40), (10, 60, 16, 66)]
    labels = ["with_mask", "without_mask", "mask_weared_incorrect", "with_mask"]
    root = voc(tmp_path / "mask_detection" / "test", [list(zip(labels, boxes, strict=True))] * 2)
    wrong = root / "annotations" / "0001.xml"
    text = wrong.read_text().replace("<name>without_mask</name>", "<name>with_mask</name>")
    wrong.write_text(text)
    return tmp_path


def test_both_collections_are_judged_and_the_other_taught_nothing(data: Path) -> None:
    """There is no ``mask_detection/train`` here: what it needs not, it cannot have read."""
    assert not (data / "mask_detection" / "train").exists()
    said: list[str] = []
    found = across(RECIPE, data, said.append)

    own, other = found["mask_classification/test"], found["mask_detection/test"]
    assert (own.accuracy.successes, own.accuracy.total) == (6, 6)
    # Faces worn incorrectly, and those too small to be seen, are left out.
    assert other.confusion == [[2, 1], [0, 1]]
    assert other.accuracy.value == 3 / 4
    assert "32 pictures {'with_mask': 16, 'without_mask': 16}" in said[0]


def test_what_the_test_folders_hold_changes_no_weight(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []
    real = cross_source.train

    def kept(*args: Any, **hooks: Any) -> Trained:
        trained = real(*args, **hooks)
        weights.append(trained.classifier.state_dict())
        return trained

    monkeypatch.setattr(cross_source, "train", kept)
    short = replace(RECIPE, config=replace(RECIPE.config, epochs=1))
    across(short, data, lambda _: None)
    for name in BINARY:
        Image.new("RGB", (20, 20)).save(data / "mask_classification" / "test" / name / "0.png")
    across(short, data, lambda _: None)
    first, second = weights
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
