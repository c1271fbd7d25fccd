"""Parts of the scripts that make and cross-validate the shipped models."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from research.measure import cross_validate
from research.measure.cross_validate import folds, shifted
from research.train import classifiers as bundled
from research.train.classifiers import THREE, Recipe, expect_frequencies, with_classes
from services.worker.datasets.labeled import LabeledImages
from services.worker.models.architectures import build
from services.worker.models.recognizers import recognizer_of
from services.worker.models.registry import BUNDLED, ModelUnavailableError, find_models
from services.worker.training.config import TrainConfig
from services.worker.training.history import Trained
from tests.unit.datasets.test_labeled import class_folders, voc

BASE = Recipe(
    id="base",
    task="mask",
    architecture="cnn",
    size=16,
    classes=bundled.BINARY,
    config=TrainConfig(epochs=1, batch_size=4, seed=0),
)
LATER = replace(BASE, id="later", task="mask3", classes=THREE, start_from="base")


def faces(groups: list[str], labels: list[int]) -> LabeledImages:
    images = torch.zeros(len(groups), 3, 32, 32, dtype=torch.uint8)
    return LabeledImages(images, torch.tensor(labels), ("a", "b", "c"), tuple(groups))


def test_expected_frequencies_move_the_logits_by_their_logarithms() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    classifier = build("mobilenet_v3_small", classes=("a", "b", "c"), input_size=64).eval()
    images = torch.rand(4, 3, 64, 64)
    with torch.no_grad():
        before = classifier(images)
        expect_frequencies(classifier, labels, 0.5)
        after = classifier(images)

    moved = 0.5 * torch.tensor([0.9, 0.09, 0.01]).log()
    torch.testing.assert_close(after - before, moved.expand(4, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(after, shifted(before, labels, 0.5), atol=1e-5, rtol=0)


def test_a_classifier_starts_from_the_recognizer_that_it_names() -> None:
    recipe = Recipe(
        id="tiny",
        task="mask",
        architecture="face_resnet",
        size=112,
        classes=bundled.BINARY,
        config=TrainConfig(seed=3),
        start_from="face-student-112",
    )
    begun = bundled.start(recipe, BUNDLED)
    recognizer = recognizer_of(*find_models()["face-student-112"])
    faces = torch.rand(2, 3, 112, 112)

    with torch.no_grad():
        ours = begun.eval().network[0]((faces - begun.mean) / begun.std)
    torch.testing.assert_close(torch.nn.functional.normalize(ours), recognizer(faces))
    assert all(parameter.requires_grad for parameter in begun.parameters())


def test_a_model_that_does_not_ship_is_written_apart_and_can_be_started_from(
    tmp_path: Path,
) -> None:
    for part in ("train", "val"):
        class_folders(tmp_path / "mask_classification" / part)
    boxes = [(10, 10, 40, 40), (50, 10, 80, 40), (90, 10, 120, 40)]
    voc(tmp_path / "mask_detection" / "train", [list(zip(THREE, boxes, strict=True))] * 8)
    shipped, scratch = tmp_path / "shipped", tmp_path / "scratch"

    def make(recipe: Recipe) -> None:
        bundled.make(recipe, tmp_path, shipped, scratch, lambda line: None)

    with pytest.raises(ModelUnavailableError, match="classifiers --only base"):
        make(LATER)
    make(replace(BASE, ships=False))
    make(LATER)
    assert [folder.name for folder in scratch.iterdir()] == ["base"]
    assert [folder.name for folder in shipped.iterdir()] == ["later"]
    assert find_models(shipped)["later"][0].lineage == ("base",)


@pytest.mark.parametrize("has_it", [True, False])
def test_bfloat16_is_for_processors_that_have_it(
    monkeypatch: pytest.MonkeyPatch, has_it: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_it})
    recipe = replace(BASE, config=replace(BASE.config, bf16=True))
    assert bundled.config_here(recipe) == replace(recipe.config, bf16=has_it)
    assert bundled.config_here(BASE) == BASE.config


def test_faces_of_a_photo_share_a_fold() -> None:
    groups = [f"photo {n // 3}" for n in range(30)]
    found = folds(faces(groups, [n % 3 for n in range(30)]), 4, seed=0)

    assert sorted(face for fold in found for face in fold) == list(range(30))
    photos = [{groups[face] for face in fold} for fold in found]
    assert all(not photos[i] & photos[j] for i in range(4) for j in range(i))
    assert {len(fold) for fold in photos} == {2, 3}


def test_binary_pictures_join_a_task_of_three_classes() -> None:
    three = with_classes(faces(["x"], [1]), ("a", "b", "c"))
    assert (three.classes, three.labels.tolist()) == (("a", "b", "c"), [1])


def test_no_fold_is_judged_by_weights_that_saw_its_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("train", "val"):
        class_folders(tmp_path / "mask_classification" / part)
    boxes = [(10, 10, 40, 40), (50, 10, 80, 40), (90, 10, 120, 40)]
    voc(tmp_path / "mask_detection" / "train", [list(zip(THREE, boxes, strict=True))] * 6)
    begun: list[dict[str, torch.Tensor]] = []
    learned: list[LabeledImages] = []
    real = cross_validate.train

    def kept(classifier: Any, training: LabeledImages, *others: Any) -> Trained:
        begun.append({name: value.clone() for name, value in classifier.state_dict().items()})
        learned.append(training)
        return real(classifier, training, *others)

    def shipped(*_: object) -> None:
        raise AssertionError("the shipped model has seen every fold")

    monkeypatch.setattr(cross_validate, "RECIPES", (BASE, LATER))
    monkeypatch.setattr(cross_validate, "train", kept)
    monkeypatch.setattr(bundled, "load_model", shipped)

    tables = cross_validate.cross_validate(LATER, tmp_path, 3, 1, lambda line: None)

    assert torch.tensor(tables["0.0"]).sum() == 18
    base, *parts = learned
    assert base.classes == bundled.BINARY
    assert len(base) == 6  # pictures of mask_classification/train and nothing else
    assert len(parts) == 3
    same = [name for name in begun[1] if "head" not in name and begun[1][name].dim() == 4]
    assert all(torch.equal(begun[1][name], begun[2][name]) for name in same)
    assert not all(torch.equal(begun[0][name], begun[1][name]) for name in same)
