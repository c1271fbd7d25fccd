"""What ``encrypt`` takes and refuses."""

from typing import Any

import pytest
from pydantic import ValidationError

from shared.specs.encrypt import EncryptSpec

A, B, C, D = (f"img_{number:024x}" for number in range(4))
BOX = {"x": 1, "y": 2, "width": 30, "height": 40}
PHOTOS = {"towards": "photos", "images": [C], "consent": True}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"images": []}, "images"),
        ({"faces": "whole"}, "faces"),
        ({"faces": []}, "empty list"),
        ({"images": [A, B], "faces": [BOX]}, "exactly one image"),
        ({"images": [A, B], "faces": [[BOX]]}, "one each"),
        ({"preset": "huge"}, "preset"),
        ({"parameters": {"eps": 0}}, "eps"),
        ({"parameters": {"eps": 65}}, "eps"),
        ({"parameters": {"steps": 0}}, "steps"),
        ({"parameters": {"epsilon": 3}}, "epsilon"),
        ({"target": {"towards": "photos", "images": [B]}}, "consent"),
        ({"target": {"towards": "photos", "images": [B], "consent": False}}, "consent"),
        ({"target": {"towards": "photos", "images": [], "consent": True}}, "images"),
        ({"recognizers": ["x"], "judges": ["x"]}, "cannot verify"),
        ({"recognizers": []}, "recognizers"),
        ({"judges": [], "require": "protected"}, "needs a judge"),
        ({"require": "unprotected"}, "require"),
        ({"people": [{"name": "Ada", "images": []}]}, "images"),
        ({"people": [{"name": "Ada", "images": [B]}] * 2}, "names one twice"),
        ({"seed": -1}, "seed"),
    ],
)
def test_refusals_name_what_is_wrong(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        EncryptSpec.model_validate({"images": [A], **wrong})


def test_all_images_of_the_job_are_named_once() -> None:
    people = [{"name": "Ada", "images": [D, A]}]
    fields = {"images": [A, B], "other_photos": [B, C], "target": PHOTOS, "people": people}
    spec = EncryptSpec.model_validate(fields)

    assert spec.image_ids == (A, B, C, D)


def test_a_photo_named_twice_keeps_both_its_places() -> None:
    spec = EncryptSpec(images=(A, A, B), other_photos=(C, A))
    assert spec.image_ids == (A, A, B, C)


def test_a_photo_is_interactive_and_an_album_is_not() -> None:
    assert EncryptSpec(images=(A,)).queue == "interactive"
    assert EncryptSpec(images=(A,) * 3).queue == "batch"
    assert EncryptSpec(images=(A,) * 9).timeout_seconds > EncryptSpec(images=(A,)).timeout_seconds


def test_boxes_are_of_the_only_image_or_of_each() -> None:
    flat = EncryptSpec.model_validate({"images": [A], "faces": [BOX, BOX]})
    nested = EncryptSpec.model_validate({"images": [A, B], "faces": [[BOX], []]})

    assert flat.boxes is not None
    assert [len(row) for row in flat.boxes] == [2]
    assert nested.boxes is not None
    assert [len(row) for row in nested.boxes] == [1, 0]
    assert EncryptSpec(images=(A,)).boxes is None
