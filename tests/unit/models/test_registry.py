"""Models on disk come back bit for bit, or not at all."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from services.worker.models.architectures import build
from services.worker.models.registry import (
    BUNDLED,
    ModelUnavailableError,
    default_model,
    find_models,
    load_model,
    save_model,
)
from shared.model_card import CARD_FILE, WEIGHTS_FILE, ModelCard, read_card

TWO = ("with_mask", "without_mask")
MEGABYTE = 2**20
MASK_TASKS = ("mask", "mask3")


def saved(root: Path, *, model_id: str = "tiny", **fields: object) -> ModelCard:
    torch.manual_seed(0)
    classifier = build("lenet", classes=TWO).eval()
    return save_model(
        classifier,
        root,
        **{
            "id": model_id,
            "task": "mask",
            "crop_margin": 0.15,
            "license": "none",
            "training_data": {},
            "training": {},
            **fields,
        },
    )


def rewrite(root: Path, tensors: dict[str, torch.Tensor]) -> ModelCard:
    """Put other weights in place, with a card that vouches for them."""
    folder = root / "tiny"
    data = save(tensors)
    (folder / WEIGHTS_FILE).write_bytes(data)
    document = json.loads((folder / CARD_FILE).read_text())
    document["sha256"] = hashlib.sha256(data).hexdigest()
    (folder / CARD_FILE).write_text(json.dumps(document))
    return read_card(folder)


def test_comes_back_bit_for_bit(tmp_path: Path) -> None:
    card = saved(tmp_path)
    torch.manual_seed(0)
    original = build("lenet", classes=TWO).eval()
    loaded = load_model(card, tmp_path / "tiny")
    for name, tensor in original.state_dict().items():
        assert torch.equal(loaded.classifier.state_dict()[name], tensor)
    # Other layouts have other kernels on some processors, which add in another order.
    original.to(memory_format=torch.channels_last)
    images = torch.rand(3, 3, 32, 32)
    assert torch.equal(loaded.classifier(images), original(images))
    assert loaded.classifier.classes == TWO
    assert not loaded.classifier.training
    assert not any(p.requires_grad for p in loaded.classifier.parameters())
    assert loaded.bytes >= card.size - 4096


def test_half_precision_is_the_nearest_float16(tmp_path: Path) -> None:
    card = saved(tmp_path, half=True)
    torch.manual_seed(0)
    original = build("lenet", classes=TWO)
    state = load_model(card, tmp_path / "tiny").classifier.state_dict()
    for name, tensor in original.state_dict().items():
        assert torch.equal(state[name], tensor.half().float())


def test_refuses_weights_that_were_tampered_with(tmp_path: Path) -> None:
    card = saved(tmp_path)
    path = tmp_path / "tiny" / WEIGHTS_FILE
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelUnavailableError, match=card.sha256):
        load_model(card, tmp_path / "tiny")


def test_says_where_missing_weights_belong(tmp_path: Path) -> None:
    card = saved(tmp_path)
    path = tmp_path / "tiny" / WEIGHTS_FILE
    path.unlink()
    with pytest.raises(ModelUnavailableError, match=f"{card.sha256} at .*{WEIGHTS_FILE}"):
        load_model(card, tmp_path / "tiny")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_refuses_values_that_are_not_finite(tmp_path: Path, value: float) -> None:
    saved(tmp_path)
    tensors = load_file(tmp_path / "tiny" / WEIGHTS_FILE)
    tensors["network.head.1.bias"][0] = value
    with pytest.raises(ModelUnavailableError, match="not finite"):
        load_model(rewrite(tmp_path, tensors), tmp_path / "tiny")


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_refuses_weights_of_another_network(tmp_path: Path, change: str) -> None:
    saved(tmp_path)
    tensors = load_file(tmp_path / "tiny" / WEIGHTS_FILE)
    if change == "missing":
        del tensors["network.head.1.bias"]
    elif change == "unexpected":
        tensors["network.other"] = torch.zeros(1)
    else:
        tensors["network.head.1.bias"] = torch.zeros(7)
    with pytest.raises(ModelUnavailableError, match="tiny"):
        load_model(rewrite(tmp_path, tensors), tmp_path / "tiny")


def test_refuses_a_file_that_is_not_safetensors(tmp_path: Path) -> None:
    card = saved(tmp_path)
    data = b"not a safetensors file"
    (tmp_path / "tiny" / WEIGHTS_FILE).write_bytes(data)
    forged = card.model_copy(update={"sha256": hashlib.sha256(data).hexdigest()})
    with pytest.raises(ModelUnavailableError, match="tiny"):
        load_model(forged, tmp_path / "tiny")


def test_refuses_a_card_of_an_unknown_architecture(tmp_path: Path) -> None:
    card = saved(tmp_path).model_copy(update={"architecture": "alexnet"})
    with pytest.raises(ModelUnavailableError, match="alexnet"):
        load_model(card, tmp_path / "tiny")


def test_an_operators_model_hides_the_bundled_one_of_its_name(tmp_path: Path) -> None:
    saved(tmp_path, model_id="mask-cnn-32")
    assert find_models(tmp_path)["mask-cnn-32"][1] == tmp_path / "mask-cnn-32"
    assert find_models()["mask-cnn-32"][1] == BUNDLED / "mask-cnn-32"


def test_a_task_without_models_is_said_to_have_none(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="'gait'"):
        default_model("gait", tmp_path)


@pytest.mark.parametrize(
    ("task", "model_id"),
    list(zip(MASK_TASKS, ("mask-face-112", "mask3-mobilenetv3s-112"), strict=True)),
)
def test_each_task_has_its_default(task: str, model_id: str) -> None:
    assert default_model(task).id == model_id


def test_the_bundled_models_load_and_are_small() -> None:
    found = find_models()
    for card, folder in found.values():
        if card.task not in MASK_TASKS:
            continue  # no classifiers: tests of their own load them
        loaded = load_model(card, folder)
        height, width = loaded.classifier.input_size
        logits = loaded.classifier(torch.rand(2, 3, height, width))
        assert logits.shape == (2, len(card.classes))
        assert card.size == (folder / WEIGHTS_FILE).stat().st_size
    classifiers = [card for card, _ in found.values() if card.task in MASK_TASKS]
    assert len(classifiers) >= 3
    assert sum(card.size for card in classifiers) < 12_000_000
    assert sum(card.size for card, _ in found.values()) < 40_000_000


def test_the_bundled_weights_have_a_license_beside_them() -> None:
    text = (BUNDLED / "LICENSE-WEIGHTS.md").read_text(encoding="utf-8")
    assert "research" in text
    for card, _ in find_models().values():
        assert "LICENSE-WEIGHTS.md" in card.license


def test_a_card_that_was_changed_is_read_anew(tmp_path: Path) -> None:
    before = saved(tmp_path)
    assert not find_models(tmp_path)["tiny"][0].default

    changed = before.model_copy(update={"default": True})
    (tmp_path / "tiny" / CARD_FILE).write_text(changed.model_dump_json())

    assert find_models(tmp_path)["tiny"][0].default
