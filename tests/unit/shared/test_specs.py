"""Specs and results: found by their presence, strict about what they take."""

import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from shared.results import RESULTS
from shared.specs import ANY_SPEC, SPECS, parse_spec
from shared.specs.classify import BATCHED_IMAGES, ClassifySpec
from shared.specs.faces import INTERACTIVE_IMAGES

IMAGE = "img_0123456789abcdef01234567"
BOX = {"x": 1, "y": 2, "width": 30, "height": 40}


def test_every_kind_has_spec_result_and_examples_that_validate() -> None:
    assert set(SPECS) == set(RESULTS)
    assert "classify" in SPECS
    for kind, spec in SPECS.items():
        assert spec.summary
        assert spec.spec_examples
        for example in spec.spec_examples:
            assert parse_spec({**example, "kind": kind}).kind == kind


def test_spec_survives_its_own_json() -> None:
    spec = ClassifySpec.model_validate({"images": [IMAGE], "faces": [BOX]})
    stored = json.loads(json.dumps(spec.model_dump(mode="json")))
    assert parse_spec(stored) == spec
    assert ANY_SPEC.validate_python(stored) == spec


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": []},
        {},
        {"images": ["../../etc/passwd"]},
        {"images": [IMAGE], "face": "auto"},
        {"images": [IMAGE], "faces": "all"},
        {"images": [IMAGE], "faces": []},
        {"images": [IMAGE], "faces": [{**BOX, "width": 0}]},
        {"images": [IMAGE], "faces": [{**BOX, "x": float("nan")}]},
        {"images": [IMAGE, IMAGE], "faces": [BOX]},
        {"images": [IMAGE, IMAGE], "faces": [[BOX]]},
        {"images": [IMAGE], "model": "../secret"},
        {"images": [IMAGE], "annotate": "perhaps"},
        {"images": [IMAGE], "kind": "attack"},
    ],
)
def test_classify_refuses(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ClassifySpec.model_validate(wrong)


def test_boxes_are_given_per_image() -> None:
    flat = ClassifySpec.model_validate({"images": [IMAGE], "faces": [BOX, BOX]})
    nested = ClassifySpec.model_validate({"images": [IMAGE, IMAGE], "faces": [[BOX], [BOX, BOX]]})
    assert [len(row) for row in flat.boxes or ()] == [2]
    assert [len(row) for row in nested.boxes or ()] == [1, 2]
    assert ClassifySpec.model_validate({"images": [IMAGE]}).boxes is None


def test_queue_follows_the_jobs_own_size() -> None:
    small = ClassifySpec(images=(IMAGE,) * INTERACTIVE_IMAGES)
    large = ClassifySpec(images=(IMAGE,) * (INTERACTIVE_IMAGES + 1))
    assert (small.queue, large.queue) == ("interactive", "batch")
    assert large.timeout_seconds > small.timeout_seconds


def test_small_jobs_on_one_model_may_share_a_batch() -> None:
    one = ClassifySpec(images=(IMAGE,))
    assert one.batch_key is not None
    assert one.batch_key == ClassifySpec(images=(IMAGE, IMAGE), faces="whole").batch_key
    assert one.batch_key != ClassifySpec(images=(IMAGE,), model="other").batch_key
    assert ClassifySpec(images=(IMAGE,) * (BATCHED_IMAGES + 1)).batch_key is None


def test_clients_can_use_specs_with_pydantic_alone() -> None:
    code = (
        "import sys; import shared.specs, shared.results;"
        "heavy = {'sqlalchemy', 'celery', 'PIL', 'numpy', 'torch', 'fastapi'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
