"""``import-model`` from an upload to a registered model."""

import hashlib
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError
from safetensors.torch import save

from services.worker.jobs import classify, import_model
from services.worker.jobs.encrypt import job as encrypt
from services.worker.models.architectures import build
from services.worker.stopping import Stopped
from shared.problems import Problem
from shared.specs.classify import ClassifySpec
from shared.specs.encrypt import EncryptSpec
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


def onnx_file() -> bytes:
    """An embedding network that somebody exported: a convolution and a mean of its map."""
    weights = np.random.default_rng(0).normal(0, 0.1, (16, 3, 8, 8)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["faces", "weights"], ["maps"], strides=[8, 8]),
            helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["embeddings"]),
        ],
        "theirs",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["N", 3, 112, 112])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["N", 16])],
        [numpy_helper.from_array(weights, "weights")],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


RECOGNIZER: dict[str, Any] = {
    "id": "theirs",
    "task": "recognize",
    "architecture": "onnx",
    "classes": (),
    "input_size": 112,
    "preprocessing": {"colors": "bgr"},
    "training_data": {"people_groups": ["their people"]},
    "metrics": {"rank_1": 0.9, "thresholds": {"0.01": 0.3, "0.001": 0.4}},
}


def test_a_recognizer_as_onnx_is_taken_in_and_judges(context_of: Make, bare: Any) -> None:
    context = context_of(bare)
    context.uploaded = onnx_file()

    import_model.run(context, spec(**RECOGNIZER))

    card, data = context.registered["theirs"]
    assert card.preprocessing["colors"] == "bgr"
    assert card.sha256 == hashlib.sha256(data).hexdigest()
    used = {"parameters": {"steps": 2}, "recognizers": ["face-residual-112"]}
    wanted = EncryptSpec.model_validate({"images": context.ids, "judges": ["theirs"], **used})
    result = encrypt.run(context, wanted)
    (judge,) = [one for one in result.recognizers if one.role == "judge"]
    assert (judge.id, judge.architecture, judge.held_out) == ("theirs", "onnx", True)
    (similar,) = [
        one for one in result.images[0].faces[0].similarities if one.recognizer == "theirs"
    ]
    assert -1 <= similar.after <= 1


def test_a_recognizer_without_gradients_is_not_searched_with(context_of: Make, bare: Any) -> None:
    context = context_of(bare)
    context.uploaded = onnx_file()
    import_model.run(context, spec(**RECOGNIZER))

    with pytest.raises(Problem, match="it can only be a judge") as caught:
        encrypt.run(
            context,
            EncryptSpec.model_validate({"images": context.ids, "recognizers": ["theirs"]}),
        )
    assert caught.value.slug == "invalid-input"


@pytest.mark.parametrize(
    ("data", "fields", "says"),
    [
        (lambda: b"", {}, "the file is empty"),
        (lambda: b"\xff" * 100, {}, "not an ONNX file"),
        (onnx_file, {"input_size": 160}, "112"),
        (lambda: save({"a": torch.zeros(1)}), {}, "not an ONNX file|nodes"),
        (lambda: save({"a": torch.zeros(1)}), {"architecture": "mobilefacenet"}, "Missing key"),
        (lambda: b"none", {"architecture": "mobilefacenet"}, "not a safetensors file"),
    ],
)
def test_a_recognizer_that_cannot_be_run_is_refused(
    context_of: Make, data: Callable[[], bytes], fields: dict[str, Any], says: str
) -> None:
    context = context_of()
    context.uploaded = data()
    asked = RECOGNIZER | fields
    if asked["architecture"] != "onnx":
        asked = {**asked, "preprocessing": None}

    with pytest.raises(Problem, match=says) as caught:
        import_model.run(context, spec(**asked))
    assert caught.value.slug == "invalid-model"
    assert context.registered == {}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"classes": CLASSES}, "a recognizer has no `classes`"),
        ({"task": "mask"}, "names at least two"),
        ({"task": "mask", "classes": CLASSES}, "for the task `recognize` only"),
        ({"preprocessing": {"window": (100, 0, 100)}}, "lies in the 160 px frame"),
        ({"preprocessing": {"std": 0}}, "greater than 0"),
    ],
)
def test_a_card_that_does_not_fit_is_refused_at_once(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        spec(**(RECOGNIZER | fields))
