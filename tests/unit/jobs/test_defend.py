"""``defend`` on the shipped models."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from services.worker.defenses.registry import DEFENSES
from services.worker.jobs import defend
from shared.specs.defend import (
    AnyStep,
    BitDepth,
    DefendSpec,
    Median,
    Noise,
    PixelRepair,
    SeamCarving,
)

Make = Callable[..., Any]


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_every_defense_of_the_library_can_be_named() -> None:
    choices = AnyStep.__origin__.__args__  # type: ignore[attr-defined]
    assert {choice.model_fields["name"].default for choice in choices} == set(DEFENSES)


def test_every_step_is_reported_and_carving_leads_to_the_models_input(
    context_of: Make, four_people: Image.Image
) -> None:
    context = context_of(four_people)
    steps = (Median(size=3), BitDepth(bits=5), SeamCarving(energy="gradient", protect_face=True))
    result = defend.run(context, DefendSpec(images=context.ids, defenses=steps))
    faces = result.images[0].faces
    assert len(faces) == 4
    assert sum(result.verdicts.values()) == 4
    for face in faces:
        assert [step.defense for step in face.steps] == ["median", "bit_depth", "seam_carving"]
        assert [step.size for step in face.steps] == [(224, 224), (224, 224), (112, 112)]
        assert face.steps[2].changed_pixels is None
        assert pixels(context.artifacts[face.defended]).shape == (112, 112, 3)
        changed = any(step.label != face.before.label for step in face.steps)
        assert (face.verdict == "label_changed") is changed
    assert pixels(context.artifacts["report-0.png"]).ndim == 3


def test_bit_depth_eight_changes_nothing(context_of: Make, masked: Image.Image) -> None:
    context = context_of(masked)
    result = defend.run(context, DefendSpec(images=context.ids, defenses=(BitDepth(bits=8),)))
    face = result.images[0].faces[0]
    assert face.steps[0].changed_pixels == 0
    assert face.steps[0].probabilities == face.before.probabilities
    assert face.verdict == "steady"


def test_random_defense_follows_the_seed(context_of: Make, masked: Image.Image) -> None:
    outputs = []
    for seed in (1, 1, 2):
        context = context_of(masked)
        spec = DefendSpec(images=context.ids, defenses=(Noise(sigma=0.1),), seed=seed)
        defend.run(context, spec)
        outputs.append(context.artifacts["defended-0-0.png"])
    assert outputs[0] == outputs[1] != outputs[2]


def test_repair_finds_a_planted_pixel_that_holds_the_label(
    context_of: Make, masked: Image.Image
) -> None:
    """Pixels are only called suspicious where painting them over moves the label's probability."""
    clean = context_of(masked)
    spec = DefendSpec(images=clean.ids, defenses=(PixelRepair(),), model="mask-cnn-32")
    assert defend.run(clean, spec).images[0].faces[0].suspicious_pixels == ()


def test_target_larger_than_the_cut_face_is_a_clear_error(
    context_of: Make, masked: Image.Image
) -> None:
    context = context_of(masked)
    spec = DefendSpec(images=context.ids, defenses=(SeamCarving(),), cut_size=16)
    with pytest.raises(ValueError, match="112"):
        defend.run(context, spec)


@pytest.mark.parametrize(
    "defenses",
    [[], [{"name": "magic"}], [{"name": "median", "size": 4}], [{"name": "jpeg", "bits": 4}]],
)
def test_wrong_defenses_are_refused(defenses: list[dict[str, object]]) -> None:
    with pytest.raises(ValidationError):
        DefendSpec.model_validate({"images": ["img_" + "0" * 24], "defenses": defenses})
