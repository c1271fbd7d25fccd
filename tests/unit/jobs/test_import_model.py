"""``import-model`` from an upload to a registered model."""

import struct
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import save

from services.worker.jobs import classify, import_model
from services.worker.models.architectures import build
from services.worker.stopping import Stopped
from shared.problems import Problem
from shared.specs.classify import ClassifySpec
from shared.specs.import_model import ImportModelSpec
from tests import isolated_functions

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


def test_a_model_is_taken_in_and_serves(context_of: Make, bare: Any) -> None:
    context = context_of(bare)
    weights = {n: t.half() if t.is_floating_point() else t for n, t in tensors().items()}
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


def test_a_small_file_takes_little(context_of: Make) -> None:
    """8.3 GB, if the network were built before names are compared."""
    context = context_of()
    # Far less than the network takes: the limit of the process tells what was built.
    context.settings = context.settings.model_copy(update={"import_memory_bytes": 2**30})
    context.uploaded = struct.pack("<Q", 2) + b"{}"

    with pytest.raises(Problem, match="model is refused: the tensors are not") as caught:
        import_model.run(context, spec(architecture="capsnet", input_size=1024))
    assert caught.value.slug == "invalid-model"
    assert context.registered == {}


def test_a_canceled_check_that_hangs_is_killed(
    context_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = f"{isolated_functions.__name__}:pack_forever"
    monkeypatch.setattr(import_model, "FUNCTION", hangs)
    context = context_of()
    context.uploaded = b"x"
    seen: list[int] = []

    def progress(done: int, total: int, message: str = "", **data: Any) -> None:
        seen.append(int(message))
        context.stop = Stopped()

    context.progress = progress
    with pytest.raises(Stopped):
        import_model.run(context, spec())
    assert not isolated_functions.is_alive(seen[0])
