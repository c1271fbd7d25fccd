"""``import-model`` from an upload to a registered model."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import save

from services.worker.jobs import classify, import_model
from services.worker.models.architectures import build
from shared.problems import Problem
from shared.specs.classify import ClassifySpec
from shared.specs.import_model import ImportModelSpec

Make = Callable[..., Any]
CLASSES = ("with_mask", "without_mask")


def spec(**fields: Any) -> ImportModelSpec:
    return ImportModelSpec.model_validate(
        {"id": "mine", "architecture": "cnn", "classes": CLASSES, "input_size": 32, **fields}
    )


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        name: tensor.contiguous()
        for name, tensor in build("cnn", classes=CLASSES, input_size=32).state_dict().items()
    }


@pytest.mark.parametrize("half", [False, True])
def test_a_model_is_taken_in_and_serves(context_of: Make, bare: Any, half: bool) -> None:
    context = context_of(bare)
    weights = tensors()
    if half:
        weights = {n: t.half() if t.is_floating_point() else t for n, t in weights.items()}
    context.uploaded = save(weights)

    result = import_model.run(context, spec(threat_model={"fgsm": "not tested"}))

    assert result.model == "mine"
    assert result.tensors == len(weights)
    assert result.parameters_total == sum(tensor.numel() for tensor in weights.values())
    card, data = context.registered["mine"]
    assert data == context.uploaded
    assert card.threat_model == {"fgsm": "not tested"}
    served = classify.run(
        context, ClassifySpec(images=context.ids, faces="whole", model="mine", annotate=False)
    )
    assert served.models[0].sha256 == card.sha256


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
    context_of: Make, data: Callable[[], bytes], fields: dict[str, Any], says: str
) -> None:
    context = context_of()
    context.uploaded = data()

    with pytest.raises(Problem, match=says) as caught:
        import_model.run(context, spec(**fields))
    assert caught.value.slug == "invalid-model"
    assert context.registered == {}
