"""Recognizers that were fine-tuned on masks, and what they teach."""

from pathlib import Path

import pytest
import torch

from services.worker.models.architectures import build
from services.worker.models.registry import find_models
from services.worker.training import bundled, face_teachers
from services.worker.training.bundled import BINARY, Recipe, make
from services.worker.training.config import TrainConfig
from services.worker.training.data import LabeledImages
from services.worker.training.face_teachers import Lesson, committee, face_classifier, teach

STUDENT = "face-student-112"
LESSON = Lesson(
    recognizer=STUDENT, config=TrainConfig(epochs=3, batch_size=8, max_lr=1e-3, bf16=True, seed=0)
)


def pictures(count: int, *, seed: int) -> LabeledImages:
    """Faces of noise whose lower half is bright or dark: with a mask or without."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(60, 190, (count, 3, 112, 112), dtype=torch.uint8, generator=generator)
    labels = torch.arange(count) % 2
    images[labels == 0, :, 56:] += 60
    images[labels == 1, :, 56:] -= 60
    return LabeledImages(images, labels, BINARY, tuple(str(n) for n in range(count)))


def test_a_committee_answers_with_the_mean_of_its_members_logits() -> None:
    members = []
    for seed in range(3):
        torch.manual_seed(seed)
        members.append(build("cnn", classes=BINARY, input_size=32).eval())
    images = torch.rand(5, 3, 32, 32)
    joined = committee(members)

    with torch.no_grad():
        mean = torch.stack([member(images) for member in members]).mean(0)
    torch.testing.assert_close(joined(images), mean, atol=0.05, rtol=0.05)  # bfloat16
    assert joined.classes == BINARY
    assert not any(parameter.requires_grad for parameter in joined.parameters())


def test_a_face_classifier_starts_from_the_recognizer_and_a_seeded_head() -> None:
    one, again, other = (face_classifier(STUDENT, BINARY, seed=seed) for seed in (0, 0, 1))
    state, same, different = one.state_dict(), again.state_dict(), other.state_dict()
    head = [name for name in state if name.startswith("network.2.")]

    assert all(torch.equal(state[name], same[name]) for name in state)
    assert all(torch.equal(state[name], different[name]) for name in state if name not in head)
    assert not torch.equal(state["network.2.weight"], different["network.2.weight"])
    assert all(parameter.requires_grad for parameter in one.parameters())


def test_a_teacher_learns_is_kept_and_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, validation = pictures(32, seed=0), pictures(8, seed=1)
    said: list[str] = []
    taught = teach([LESSON], training, validation, kept_in=tmp_path, say=said.append)
    answers = taught(validation.images / 255)
    assert (answers.argmax(1) == validation.labels).all()

    monkeypatch.setattr(face_teachers, "train", None)
    again = teach([LESSON], training, validation, kept_in=tmp_path, say=said.append)

    assert torch.equal(again(validation.images / 255), answers)
    assert "from face-student-112.safetensors" in said[-1]


def test_a_taught_model_names_its_teachers_and_those_before_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(
        id="tiny",
        task="mask",
        architecture="mobilenet_v3_small",
        size=112,
        classes=BINARY,
        config=TrainConfig(epochs=1, batch_size=8, seed=0),
        teachers=(LESSON,),
    )
    sides = pictures(16, seed=0), pictures(8, seed=1)
    monkeypatch.setattr(bundled, "load_data", lambda recipe, data: sides)
    make(recipe, tmp_path, tmp_path / "models", tmp_path / "teachers", lambda line: None)

    card, _ = find_models(tmp_path / "models")["tiny"]
    assert card.lineage == (STUDENT, *find_models()[STUDENT][0].lineage)
    assert card.training["config"]["temperature"] == bundled.HEAT
    assert card.training["teachers"][0]["recognizer"] == STUDENT
