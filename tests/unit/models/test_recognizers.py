"""Recognizers: unit embeddings, the frames they look at, and their weights."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from services.worker.models.recognizers import (
    EMBEDDERS,
    build_recognizer,
    load_checkpoint,
    recognizer_of,
)
from services.worker.models.registry import (
    ModelUnavailableError,
    find_models,
    write_weights,
)
from shared.model_card import ModelCard

SHIPPED = ("face-residual-112", "face-student-112")


@pytest.mark.parametrize("architecture", EMBEDDERS)
def test_embeddings_have_length_one_and_gradients_reach_the_picture(architecture: str) -> None:
    recognizer = build_recognizer(architecture, identifier="x").eval()
    side = recognizer.input_size[0]
    faces = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    faces.requires_grad_()

    embeddings = recognizer(faces)
    embeddings[:, 0].sum().backward()

    assert torch.allclose(embeddings.norm(dim=1), torch.ones(2), atol=1e-5)
    assert faces.grad is not None
    assert float(faces.grad.abs().sum()) > 0


# dlib's network has no normalization to learn with from chance; it is only converted.
LEARNED = [name for name in EMBEDDERS if name != "dlib_resnet"]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", LEARNED)
def test_learns_sixteen_faces_by_heart(architecture: str) -> None:
    """Sixteen pictures of noise are those of four people: the nearest of four directions counts."""
    torch.manual_seed(0)
    recognizer = build_recognizer(architecture, identifier="x")
    side = recognizer.input_size[0]
    faces = torch.rand(16, 3, side, side, generator=torch.Generator().manual_seed(0))
    people = torch.arange(16) % 4
    for module in recognizer.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 0.5  # so that the statistics of eval() keep up in so few steps
    directions = torch.nn.Parameter(torch.randn(4, recognizer.eval()(faces[:1]).shape[1]))
    optimizer = torch.optim.Adam([*recognizer.parameters(), directions], lr=1e-3)
    accuracy = 0.0
    for _ in range(40):
        cosines = recognizer.train()(faces) @ functional.normalize(directions).T
        optimizer.zero_grad()
        functional.cross_entropy(16 * cosines, people).backward()
        optimizer.step()
        with torch.no_grad():
            cosines = recognizer.eval()(faces) @ functional.normalize(directions).T
        accuracy = float((cosines.argmax(1) == people).double().mean())
        if accuracy == 1:
            break
    assert accuracy == 1


@pytest.mark.parametrize("architecture", EMBEDDERS)
def test_survives_saving_and_loading_bit_for_bit(architecture: str, tmp_path: Path) -> None:
    recognizer = build_recognizer(architecture, identifier="mine").eval()
    recognizer.remember(torch.randn(200, 128))
    side = recognizer.input_size[0]
    fields = card_fields(architecture=architecture, input_size=(side, side))
    card = write_weights(recognizer, tmp_path, **fields)

    again = recognizer_of(card, tmp_path / "mine")

    saved = recognizer.state_dict()
    assert again.state_dict().keys() == saved.keys()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in again.state_dict().items())
    faces = torch.rand(1, 3, side, side)
    with torch.inference_mode():
        placed = recognizer.to(memory_format=torch.channels_last)
        assert torch.equal(again(faces), placed(faces))


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown recognizer 'arcnet'"):
        build_recognizer("arcnet", identifier="x")


def test_of_a_frame_the_inner_part_counts() -> None:
    recognizer = build_recognizer("residual_embedder", identifier="x").eval()
    frames = torch.rand(2, 3, 160, 160)
    other = torch.rand(2, 3, 160, 160)
    other[:, :, 24:136, 24:136] = frames[:, :, 24:136, 24:136]

    with torch.no_grad():
        assert torch.allclose(recognizer.of_frames(frames), recognizer.of_frames(other), atol=1e-5)


def test_statistics_are_numpys() -> None:
    recognizer = build_recognizer("residual_embedder", identifier="x")
    assert not recognizer.knows_faces
    embeddings = torch.randn(50, 128)

    recognizer.remember(embeddings)

    assert recognizer.knows_faces
    np.testing.assert_allclose(
        recognizer.face_covariance.numpy(), np.cov(embeddings.numpy().T), atol=1e-5
    )


def card_fields(**fields: object) -> dict[str, object]:
    return {
        "id": "mine",
        "task": "recognize",
        "architecture": "pooled_embedder",
        "classes": (),
        "input_size": (112, 112),
        "crop_margin": 0.0,
        "license": "none",
        "training_data": {},
        "training": {},
        **fields,
    }


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    recognizer = build_recognizer("pooled_embedder", identifier="mine").eval()
    recognizer.remember(torch.randn(200, 128))
    card = write_weights(recognizer, tmp_path, **card_fields())

    again = recognizer_of(card, tmp_path / "mine")

    faces = torch.rand(2, 3, 112, 112)
    with torch.no_grad():
        assert torch.allclose(again(faces), recognizer(faces), atol=1e-5)
    assert torch.equal(again.face_mean, recognizer.face_mean)
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_weights_that_are_missing_changed_or_anothers_are_refused(tmp_path: Path) -> None:
    recognizer = build_recognizer("pooled_embedder", identifier="mine")
    card = write_weights(recognizer, tmp_path, **card_fields())
    folder = tmp_path / "mine"

    with pytest.raises(ModelUnavailableError, match=card.sha256):
        recognizer_of(card, tmp_path / "elsewhere")
    other = ModelCard.model_validate({**card.model_dump(), "architecture": "residual_embedder"})
    with pytest.raises(ModelUnavailableError, match="mine"):
        recognizer_of(other, folder)
    save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(ModelUnavailableError, match="SHA-256"):
        recognizer_of(card, folder)


@pytest.mark.shared_data
def test_the_third_partys_checkpoint_loads(shared_data: Path) -> None:
    path = shared_data.parent / "weights" / "mobilefacenet_ms1m.pt"

    recognizer = load_checkpoint(path, "mobilefacenet")

    with torch.no_grad():
        assert recognizer(torch.rand(1, 3, 112, 112)).shape == (1, 128)
    with pytest.raises(ModelUnavailableError, match="is no residual_embedder"):
        load_checkpoint(path, "residual_embedder")


def test_a_checkpoint_that_is_no_tensors_is_not_unpickled(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"network": torch.nn.Linear(1, 1)}, buffer)
    (tmp_path / "evil.pt").write_bytes(buffer.getvalue())

    with pytest.raises(ModelUnavailableError):
        load_checkpoint(tmp_path / "evil.pt", "mobilefacenet")
    with pytest.raises(ModelUnavailableError, match="no checkpoint"):
        load_checkpoint(tmp_path / "none.pt", "mobilefacenet")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recognizers_are_small_and_say_whom_they_learned_from(name: str) -> None:
    card, folder = find_models()[name]

    recognizer = recognizer_of(card, folder)

    assert card.size <= 5 * 10**6
    assert card.training_data["people_groups"]
    assert 0 < card.metrics["thresholds"]["0.01"] < card.metrics["thresholds"]["0.001"] < 1
    assert recognizer.knows_faces
    assert card.classes == ()


@pytest.mark.parametrize(("name", "most"), [("dlib-resnet-v1", 12), ("mobilefacenet_ms1m", 3)])
def test_strong_recognizers_of_others_ship_with_their_terms(name: str, most: float) -> None:
    card, folder = find_models()[name]

    recognizer = recognizer_of(card, folder)

    assert card.size <= most * 10**6
    assert card.metrics["rank_1"] > 0.9
    assert card.license.startswith(("CC0", "Apache-2.0"))
    assert (folder / "LICENSE").is_file()
    assert len(card.training_data["file_sha256"]) == 64
    assert recognizer.knows_faces
    assert recognizer.differentiable


def test_all_weights_together_stay_small() -> None:
    assert sum(card.size for card, _ in find_models().values()) <= 40 * 10**6


def test_the_two_that_ship_are_held_out_from_each_other() -> None:
    cards = [find_models()[name][0] for name in SHIPPED]
    groups = [set(card.training_data["people_groups"]) for card in cards]
    families = [{card.id, *card.lineage} for card in cards]

    assert not groups[0] & groups[1]
    assert not families[0] & families[1]
    assert cards[0].architecture != cards[1].architecture
