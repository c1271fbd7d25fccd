"""What ``generate-mask`` takes and refuses."""

from typing import Any

import pytest
from pydantic import ValidationError

from shared.specs.generate_mask import GenerateMaskSpec

A = "img_0123456789abcdef01234567"
DATASET = "ds_0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "one of"),
        ({"images": [A], "dataset": DATASET}, "one of"),
        ({"dataset": DATASET, "from_model": "x"}, "one of"),
        ({"from_model": "x", "conditional": True}, "apply only to training"),
        ({"from_model": "x", "projector": "cnn"}, "apply only to training"),
        ({"images": [A], "conditional": True, "generator": "pixels"}, "for everybody"),
        ({"images": [A], "projector": "cnn", "shape": "n95"}, "on the photos"),
        ({"images": [A], "projector": "lidar"}, "projector"),
        ({"images": [A], "people": 5}, "people"),
        ({"images": [A], "experiment": "1"}, "needs a `dataset`"),
        ({"dataset": DATASET, "experiment": "4"}, "experiment"),
        ({"from_model": "x", "model_id": "y"}, "trains nothing"),
        ({"dataset": "../x"}, "dataset"),
        ({"images": [A], "designs": 0}, "designs"),
        ({"images": [A], "designs": 25}, "designs"),
        ({"images": [A], "shape": "scarf"}, "shape"),
        ({"images": [A], "hyperparameters": {"epochs": 0}}, "epochs"),
        ({"images": [A], "hyperparameters": {"epoch": 3}}, "epoch"),
        ({"images": [A], "recognizers": ["x"], "judges": ["x"]}, "cannot evaluate a design"),
        ({"images": [A], "method": "hig"}, "method"),
        ({"images": [A], "hog": {"steps": 5}}, "set `method` as well"),
    ],
)
def test_refusals_name_what_is_wrong(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        GenerateMaskSpec.model_validate(wrong)


def test_drawing_is_interactive_and_training_is_not() -> None:
    assert GenerateMaskSpec(from_model="x").queue == "interactive"
    assert GenerateMaskSpec(images=(A,)).queue == "batch"
    assert GenerateMaskSpec(from_model="x", images=(A,)).queue == "interactive"
    assert GenerateMaskSpec(from_model="x").model_ids == ("x",)
    assert GenerateMaskSpec(dataset=DATASET).dataset_ids == (DATASET,)
    assert GenerateMaskSpec(images=(A,)).image_ids == (A,)


HIDE = {"objective": "hide"}
GRID = {"pattern": "grid"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dataset": DATASET}, "has no parameter `dataset`"),
        ({"from_model": "x"}, "has no parameter `from_model`"),
        ({"generator": "pixels", "designs": 3}, "has no parameter `designs`, `generator`"),
        ({"hyperparameters": {"epochs": 3}}, "has no parameter `hyperparameters`"),
        ({"shape": "n95"}, "has no parameter `shape`"),
        ({"judges": []}, "has no parameter `judges`"),
        ({"images": [A]}, "leave out `images`"),
        ({"hog": HIDE}, "give `images`"),
        ({"hog": {"steps": 0}}, "steps"),
        ({"hog": {"side": 90}}, "side"),
        ({"hog": {"side": 4000}}, "side"),
        ({"hog": {"seed": 1}}, "seed"),
        ({"hog": {"cell": 4}}, "pattern `sprites` has no `cell`"),
        ({"hog": {"tile": 4, "begin": "face"}}, "`tile`, `begin`"),
        ({"hog": {**GRID, "sprites": 3}}, "pattern `grid` has no `sprites`"),
        ({"hog": {**GRID, "side": 96, "cell": 49}}, "too large for 96"),
        ({"hog": {**GRID, "side": 96, "tile": 13}}, "larger than the canvas"),
        ({"hog": {**GRID, "side": 96, "tile": [4, 13]}}, "13 cells is larger than the canvas"),
        ({"hog": {**GRID, "tile": [4, 1]}}, "tile"),
        ({"hog": {**GRID, "tile": [4, 5, 6]}}, "tile"),
        ({"hog": {"sizes": [100]}}, "objective `decoys` has no `sizes`"),
        ({"hog": {**HIDE, "scales": [0.5]}, "images": [A]}, "objective `hide` has no `scales`"),
        ({"hog": {**HIDE, "sizes": [60]}, "images": [A]}, "sizes"),
        ({"hog": {**HIDE, "sizes": []}, "images": [A]}, "sizes"),
        ({"hog": {"scales": [3.0]}}, "scales"),
        ({"hog": {"side": 100, "scales": [1.0, 0.5]}}, "under 80 pixels"),
        ({"hog": {"processes": 0}}, "processes"),
    ],
)
def test_the_method_hog_refuses_what_it_does_not_use(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        GenerateMaskSpec.model_validate({"method": "hog", **wrong})


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"hog": {"sprites": 9, "scales": [0.5, 1.0]}, "seed": 3},
        {"hog": {**GRID, "cell": 4, "tile": 24, "begin": "face", "processes": 2}},
        {"hog": {**GRID, "cell": 2, "tile": [38, 32]}},
        {"hog": {**HIDE, "sizes": [80, 160]}, "images": [A]},
    ],
)
def test_a_pattern_s_spec_is_read_back_as_it_was_stored(fields: dict[str, Any]) -> None:
    spec = GenerateMaskSpec.model_validate({"method": "hog", **fields})

    assert GenerateMaskSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert spec.queue == "batch"
    assert spec.dataset_ids == spec.model_ids == ()
    assert spec.image_ids == tuple(fields.get("images", ()))
