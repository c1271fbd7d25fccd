"""Embedding networks as ONNX: what is run, and what a hostile file may not do."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch.nn import functional

from services.worker.models.onnx_network import OnnxNetwork, OnnxRejectedError, check_onnx

SIDE = 112
WEIGHTS = np.random.default_rng(0).normal(0, 0.1, (16, 3, 8, 8)).astype(np.float32)


def tiny(
    *,
    batch: Any = "N",
    nodes: list[onnx.NodeProto] | None = None,
    shape: list[Any] | None = None,
    out: list[Any] | None = None,
    extra: list[TensorProto] | None = None,
    opsets: list[onnx.OperatorSetIdProto] | None = None,
) -> ModelProto:
    """A convolution, a rectifier and a mean over the map: embeddings of 16 numbers."""
    chain = nodes or [
        helper.make_node("Conv", ["faces", "weights"], ["maps"], strides=[8, 8]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embeddings"]),
    ]
    taken = shape or [batch, 3, SIDE, SIDE]
    graph = helper.make_graph(
        chain,
        "tiny",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, taken)],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, out or [batch, 16])],
        [numpy_helper.from_array(WEIGHTS, "weights"), *(extra or [])],
    )
    return helper.make_model(
        graph, opset_imports=opsets or [helper.make_opsetid("", 17)], ir_version=10
    )


@pytest.mark.parametrize("batch", ["N", 1, 4])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_answers_as_the_same_network_in_torch(batch: Any, count: int) -> None:
    network = OnnxNetwork(tiny(batch=batch).SerializeToString())
    faces = torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))

    expected = functional.conv2d(faces, torch.from_numpy(WEIGHTS), stride=8).relu().mean((2, 3))

    assert torch.allclose(network(faces), expected, atol=1e-5)


def test_takes_colors_last() -> None:
    turned = helper.make_node("Transpose", ["faces"], ["first"], perm=[0, 3, 1, 2])
    chain = [
        turned,
        helper.make_node("Conv", ["first", "weights"], ["maps"], strides=[8, 8]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embeddings"]),
    ]
    model = tiny(nodes=chain, shape=["N", SIDE, SIDE, 3])
    faces = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))

    given = OnnxNetwork(model.SerializeToString())(faces)

    assert torch.allclose(given, OnnxNetwork(tiny().SerializeToString())(faces), atol=1e-5)


def elsewhere() -> ModelProto:
    """Weights in a file beside it: any file of the machine could be named."""
    model = tiny()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    return model


def constant_elsewhere() -> ModelProto:
    value = TensorProto(dims=[4], data_type=TensorProto.FLOAT, name="hidden")
    value.data_location = TensorProto.EXTERNAL
    entry = value.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    model = tiny()
    model.graph.node.insert(0, helper.make_node("Constant", [], ["unused"], value=value))
    return model


def custom() -> ModelProto:
    model = tiny(opsets=[helper.make_opsetid("", 17), helper.make_opsetid("evil", 1)])
    model.graph.node[1].domain = "evil"
    return model


def functions() -> ModelProto:
    model = tiny()
    model.functions.append(
        helper.make_function(
            "ai.onnx",
            "Relu",
            ["x"],
            ["y"],
            [helper.make_node("Exp", ["x"], ["y"])],
            [helper.make_opsetid("", 17)],
        )
    )
    return model


def loops() -> ModelProto:
    body = helper.make_graph([], "body", [], [])
    model = tiny()
    model.graph.node.insert(0, helper.make_node("Loop", ["", ""], ["unused"], body=body))
    return model


def bomb() -> ModelProto:
    """A padding that makes petabytes of a few bytes."""
    model = tiny()
    pads = numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 0, 2**20, 2**20]), "pads")
    model.graph.initializer.append(pads)
    model.graph.node.insert(0, helper.make_node("Pad", ["faces", "pads"], ["wide"]))
    model.graph.node[1].input[0] = "wide"
    return model


def spread() -> ModelProto:
    """Operators that make large arrays out of a number are not among those of a network."""
    model = tiny()
    model.graph.node.insert(0, helper.make_node("Expand", ["faces", "weights"], ["unused"]))
    return model


def two_inputs() -> ModelProto:
    model = tiny()
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    return model


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (elsewhere, "another file"),
        (constant_elsewhere, "another file"),
        (custom, "operators of its own"),
        (functions, "operators of its own"),
        (loops, "operator ai.onnx.Loop"),
        (bomb, "makes an array of"),
        (spread, "operator ai.onnx.Expand"),
        (two_inputs, "one input and one output"),
        (lambda: tiny(shape=["N", 3, SIDE, 96]), "112 x 96 pixels"),
        (lambda: tiny(shape=["N", 3, 4096, 4096]), "4096 x 4096 pixels"),
        (lambda: tiny(shape=["N", 3, "H", "W"]), "None x None"),
        (lambda: tiny(shape=["N", 1, SIDE, SIDE]), "its input has the shape"),
        (lambda: tiny(out=["N", 3]), "its output has the shape"),
        (lambda: tiny(out=["N", 32]), "its shapes do not fit"),
    ],
)
def test_a_hostile_or_foreign_file_is_refused(make: Callable[[], ModelProto], said: str) -> None:
    with pytest.raises(OnnxRejectedError, match=said):
        check_onnx(make().SerializeToString())


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\xff" * 1000, b"\x08\x0a" * 10_000])
def test_what_is_no_onnx_file_is_refused(data: bytes) -> None:
    with pytest.raises(OnnxRejectedError):
        check_onnx(data)
