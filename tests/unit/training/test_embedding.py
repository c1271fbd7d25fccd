"""Recognizers learn people, and what a teacher says of them."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save

from research.train.recognizers import blends
from services.worker.datasets.identities import Identities, aligned_people
from services.worker.evaluation.identification import leave_one_out, rank_rate
from services.worker.faces.alignment import FRAME, FRAME_POINTS
from services.worker.faces.face import Face
from services.worker.models.intake import ModelRejectedError
from services.worker.models.recognizers import build_recognizer, frozen, recognizer_of
from services.worker.training.embedding import (
    EmbeddingConfig,
    as_images,
    embed,
    imitate,
    learn_people,
)
from services.worker.training.recognizer_import import import_recognizer, measure
from shared.model_card import Preprocessing

CONFIG = EmbeddingConfig(epochs=6, batch_size=16, max_lr=3e-3, seed=1)


def drawn_people(count: int, each: int, seed: int = 0) -> Identities:
    """Return frames of people who differ by their colors and by where their features lie."""
    rng = np.random.default_rng(seed)
    frames, people = [], []
    for person in range(count):
        coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        face = np.array(Image.fromarray(coarse).resize((FRAME, FRAME), Image.Resampling.BICUBIC))
        for _ in range(each):
            noise = rng.normal(0, 8, face.shape)
            frames.append(np.clip(face + noise, 0, 255).astype(np.uint8))
            people.append(person)
    names = tuple(f"person {number:02d}" for number in range(count))
    return Identities(np.stack(frames), np.array(people), names)


def test_people_of_training_are_told_apart_and_the_loss_falls() -> None:
    people = drawn_people(10, 8)
    recognizer = build_recognizer("residual_embedder", identifier="x")
    losses: list[float] = []

    learn_people(
        recognizer,
        people.frames,
        people.people,
        CONFIG,
        progress=lambda _, loss, __: losses.append(loss),
    )

    assert losses[-1] < losses[0] - 1
    embeddings = embed(recognizer, as_images(people.frames)).numpy()
    assert rank_rate(leave_one_out(embeddings, people.people), 1).value > 0.8
    assert not any("head" in name or "centers" in name for name in recognizer.state_dict())


def test_a_student_comes_near_its_teacher_without_labels() -> None:
    people = drawn_people(12, 4, seed=2)
    torch.manual_seed(5)
    teacher = frozen(build_recognizer("residual_embedder", identifier="teacher"))
    student = build_recognizer("pooled_embedder", identifier="student")
    images = as_images(people.frames)

    def nearness() -> float:
        return float((embed(student, images) * embed(teacher, images)).sum(1).mean())

    before = nearness()
    imitate(student, teacher, people.frames, CONFIG)

    assert nearness() > before + 0.3


def test_same_seed_same_weights() -> None:
    people = drawn_people(4, 4)
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        recognizer = build_recognizer("pooled_embedder", identifier="x")
        learn_people(
            recognizer, people.frames, people.people, EmbeddingConfig(epochs=1, batch_size=8)
        )
        runs.append(recognizer.state_dict())

    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_blends_lie_between_two_faces() -> None:
    faces = np.stack([np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 90, np.uint8)])

    mixed = blends(faces, 60, seed=1)

    assert mixed.shape == (60, 8, 8, 3)
    values = {int(value) for value in mixed[:, 0, 0, 0]}
    assert values <= {0, 90} | set(range(30, 61))
    assert len(values & set(range(30, 61))) > 10
    assert np.array_equal(mixed, blends(faces, 60, seed=1))


def test_people_are_numbered_anew_and_keep_their_names() -> None:
    people = drawn_people(5, 2)

    some = people.of([4, 1])

    assert some.names == ("person 01", "person 04")
    assert some.people.tolist() == [0, 0, 1, 1]
    assert np.array_equal(some.frames[2], people.frames[8])
    assert some.counts.tolist() == [2, 2]


def test_folders_are_people_and_photos_without_a_face_are_left_out(tmp_path: Path) -> None:
    for name, shades in (("zoe", (10, 200)), ("adam", (50,))):
        (tmp_path / name).mkdir()
        for shade in shades:
            Image.new("RGB", (200, 200), (shade,) * 3).save(tmp_path / name / f"{shade}.png")
    (tmp_path / "zoe" / "notes.txt").write_text("no photo")

    def detect(photo: NDArray[np.uint8]) -> list[Face]:
        points = (FRAME_POINTS + 20).astype(np.float32)
        return [] if photo[0, 0, 0] == 200 else [Face((40, 40, 160, 160), 0.9, points)]

    found = aligned_people(tmp_path, detect)

    assert found.names == ("adam", "zoe")
    assert found.people.tolist() == [0, 1]
    assert found.frames[:, 0, 0, 0].tolist() == [50, 10]

    with_two = aligned_people(tmp_path, detect, fewest=2)
    assert with_two.names == ("zoe",)
    assert with_two.frames[:, 0, 0, 0].tolist() == [10]
    first = aligned_people(tmp_path, lambda photo: detect(photo * 0), most=1)
    assert first.people.tolist() == [0, 1]


def imported(tmp_path: Path, data: bytes, **fields: str) -> None:
    file = tmp_path / "theirs.safetensors"
    file.write_bytes(data)
    card = import_recognizer(
        file,
        tmp_path / "models",
        drawn_people(12, 6),
        sha256=fields.get("sha256", hashlib.sha256(data).hexdigest()),
        model_id="theirs",
        architecture=fields.get("architecture", "mobilefacenet"),
        people_groups=("their people",),
        lineage=("their teacher",),
    )
    assert card.training_data["people_groups"] == ["their people"]
    assert card.lineage == ("their teacher",)
    assert card.metrics["thresholds"]["0.01"] <= card.metrics["thresholds"]["0.001"]
    assert 0 <= card.metrics["rank_1"] <= 1
    assert recognizer_of(card, tmp_path / "models" / "theirs").knows_faces


def test_an_operators_recognizer_is_measured_and_taken_in(tmp_path: Path) -> None:
    network = build_recognizer("mobilefacenet", identifier="x").network
    data = save(network.state_dict())

    imported(tmp_path, data)

    with pytest.raises(ModelRejectedError, match="already"):
        imported(tmp_path, data)


def test_another_file_or_network_is_refused(tmp_path: Path) -> None:
    data = save(build_recognizer("pooled_embedder", identifier="x").network.state_dict())

    with pytest.raises(ModelRejectedError, match="SHA-256"):
        imported(tmp_path, data, sha256="0" * 64)
    with pytest.raises(ModelRejectedError, match="is no mobilefacenet"):
        imported(tmp_path, data)


def test_too_few_strangers_set_no_threshold() -> None:
    recognizer = frozen(build_recognizer("pooled_embedder", identifier="x"))
    with pytest.raises(ValueError, match="cannot show"):
        measure(recognizer, drawn_people(3, 2))


def test_an_operators_onnx_file_is_measured_and_judges_only(tmp_path: Path) -> None:
    data = onnx_file()
    file = tmp_path / "theirs.onnx"
    file.write_bytes(data)
    settings: dict[str, Any] = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "model_id": "theirs",
        "architecture": "",
        "people_groups": ("their people",),
        "preprocessing": Preprocessing(mean=0.4, colors="bgr"),
    }

    card = import_recognizer(file, tmp_path / "models", drawn_people(12, 6), **settings)

    recognizer = recognizer_of(card, tmp_path / "models" / "theirs")
    assert (card.architecture, card.preprocessing["mean"]) == ("onnx", 0.4)
    assert recognizer.knows_faces
    assert not recognizer.differentiable
    faces = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    # Colors in the other order, a mean taken off each: as a stranger would compute it.
    expected = (faces.flip(1) - 0.4).mul(2).mean((2, 3)) @ torch.eye(3, 16)
    assert torch.allclose(recognizer.raw(faces)[:, :3], expected[:, :3], atol=1e-5)
    file.write_bytes(data[:-20])
    with pytest.raises(ModelRejectedError, match="refused"):
        import_recognizer(
            file,
            tmp_path / "models",
            drawn_people(12, 6),
            **settings | {"sha256": hashlib.sha256(data[:-20]).hexdigest(), "model_id": "other"},
        )


def onnx_file() -> bytes:
    """The mean of each color, and thirteen numbers that are always 0."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["faces"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("MatMul", ["flat", "spread"], ["embeddings"]),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["N", 3, 112, 112])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["N", 16])],
        [numpy_helper.from_array(np.eye(3, 16, dtype=np.float32), "spread")],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
