"""``attack`` on the shipped models."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.worker.attacks.catalog import ATTACKS
from services.worker.jobs import attack
from shared.problems import Problem
from shared.specs import SPECS
from shared.specs.attack import FGSM, PGD, AnyAttack, AttackSpec, DifferentialEvolution

Make = Callable[..., Any]


def picture(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


def test_every_attack_of_the_library_can_be_named_with_its_defaults() -> None:
    choices = AnyAttack.__origin__.__args__  # type: ignore[attr-defined]
    assert {choice.model_fields["name"].default for choice in choices} == set(ATTACKS)
    for choice in choices:
        parameters = choice().model_dump(exclude={"name"})
        built = ATTACKS[choice().name](**parameters)
        for name, value in parameters.items():
            assert getattr(built, name) == value


def test_delivered_pictures_are_what_the_result_says(
    context_of: Make, four_people: Image.Image
) -> None:
    context = context_of(four_people)
    spec = AttackSpec(images=context.ids, attack=PGD(eps=4.5, steps=5), seed=3)
    result = attack.run(context, spec)
    faces = result.images[0].faces
    assert len(faces) == 4
    assert result.success.counted == 4
    assert result.success.successes == sum(face.success for face in faces)
    assert result.success.low <= (result.success.rate or 0) <= result.success.high
    for face in faces:
        assert face.linf <= 4  # 4.5 is floored on the 8-bit grid
        assert face.success is (face.label_after != face.label)
        assert picture(context.artifacts[face.adversarial]).shape == (112, 112, 3)
    assert picture(context.artifacts["report.png"]).ndim == 3
    assert picture(context.artifacts["success-curve.png"]).ndim == 3


def test_same_seed_same_bytes(context_of: Make, masked: Image.Image) -> None:
    few = DifferentialEvolution(pixels=2, population=20, generations=3)
    delivered = []
    for seed in (1, 1, 2):
        context = context_of(masked)
        spec = AttackSpec(images=context.ids, attack=few, model="mask-cnn-32", seed=seed)
        result = attack.run(context, spec)
        assert result.images[0].faces[0].changed_pixels <= 2
        delivered.append(context.artifacts["adversarial-0-0.png"])
    assert delivered[0] == delivered[1] != delivered[2]


def test_label_and_target_are_checked_and_used(context_of: Make, bare: Image.Image) -> None:
    context = context_of(bare)
    spec = AttackSpec(images=context.ids, attack=FGSM(eps=1), label="with_mask")
    assert not attack.run(context, spec).images[0].faces[0].counted  # it was wrong before
    with pytest.raises(Problem) as refused:
        attack.run(context, AttackSpec(images=context.ids, target="sunglasses"))
    assert refused.value.slug == "invalid-input"
    same = AttackSpec(images=context.ids, attack=FGSM(eps=1), target="without_mask")
    face = attack.run(context, same).images[0].faces[0]
    assert (face.counted, face.changed_pixels) == (False, 0)


def test_no_face_is_a_result_with_a_warning(context_of: Make) -> None:
    context = context_of(Image.new("RGB", (200, 150), "teal"))
    result = attack.run(context, AttackSpec(images=context.ids))
    assert result.success.rate is None
    assert (result.success.low, result.success.high) == (0, 1)
    assert "no face" in result.warnings[0]


def test_cancel_stops_it(context_of: Make, masked: Image.Image) -> None:
    class Stop(Exception):
        pass

    context = context_of(masked)
    context.stop = Stop()
    with pytest.raises(Stop):
        attack.run(context, AttackSpec(images=context.ids))


def test_spec_is_found_by_its_kind() -> None:
    assert SPECS["attack"] is AttackSpec
