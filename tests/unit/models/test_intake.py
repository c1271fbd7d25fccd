"""Weights from strangers: what is served of them, and what is refused."""

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import save

from services.worker.models.architectures import ARCHITECTURES, build, default_input
from services.worker.models.intake import ModelRejectedError
from services.worker.models.upload import check_upload

CLASSES = ("with_mask", "without_mask")
CARD = {
    "id": "mine",
    "task": "mask",
    "architecture": "cnn",
    "classes": CLASSES,
    "input_size": (32, 32),
    "crop_margin": 0.15,
    "sha256": "0" * 64,
    "size": 1,
    "license": "none",
    "training_data": {},
    "training": {},
}


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        name: tensor.contiguous()
        for name, tensor in build("cnn", classes=CLASSES, input_size=32).state_dict().items()
    }


def check(data: bytes, **fields: Any) -> Any:
    return check_upload(io.BytesIO(data), progress=lambda *_: None, card={**CARD, **fields})


def test_weights_of_an_architecture_are_taken() -> None:
    weights = tensors()
    assert check(save(weights)) == {
        "tensors": len(weights),
        "parameters": sum(tensor.numel() for tensor in weights.values()),
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tensors_are_known_without_their_memory(architecture: str) -> None:
    size = default_input(architecture)
    with torch.device("meta"):
        blank = build(architecture, classes=CLASSES, input_size=size).state_dict()
    real = build(architecture, classes=CLASSES, input_size=size).state_dict()
    assert {n: (t.shape, t.dtype) for n, t in blank.items()} == {
        n: (t.shape, t.dtype) for n, t in real.items()
    }
    assert {tensor.device.type for tensor in blank.values()} == {"meta"}


def broken(change: Callable[[dict[str, torch.Tensor]], None]) -> bytes:
    weights = tensors()
    change(weights)
    return save(weights)


def first(weights: dict[str, torch.Tensor]) -> str:
    return next(name for name, tensor in weights.items() if tensor.is_floating_point())


def lose(weights: dict[str, torch.Tensor]) -> None:
    del weights[first(weights)]


def add(weights: dict[str, torch.Tensor]) -> None:
    weights["backdoor"] = torch.zeros(1)


def reshape(weights: dict[str, torch.Tensor]) -> None:
    weights[first(weights)] = torch.zeros(3, 3)


def poison(weights: dict[str, torch.Tensor]) -> None:
    weights[first(weights)].view(-1)[0] = float("nan")


def retype(weights: dict[str, torch.Tensor]) -> None:
    weights[first(weights)] = weights[first(weights)].to(torch.float64)


@pytest.mark.parametrize(
    ("data", "fields", "says"),
    [
        (lambda: broken(lose), {}, "missing"),
        (lambda: broken(add), {}, "backdoor too many"),
        (lambda: broken(reshape), {}, "has shape"),
        (lambda: broken(poison), {}, "not finite"),
        (lambda: broken(retype), {}, "float64"),
        (lambda: save(tensors()), {"classes": ("a", "b", "c")}, "has shape"),
        (lambda: save(tensors()), {"architecture": "transformer"}, "transformer"),
        (lambda: save(tensors())[:-5], {}, "not a safetensors file"),
        (lambda: b"\x80\x04}q\x00.", {}, "not a safetensors file"),
    ],
)
def test_what_cannot_be_served_is_refused(
    data: Callable[[], bytes], fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(ModelRejectedError, match=says):
        check(data(), **fields)
