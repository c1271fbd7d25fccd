"""Embedding networks of others as ONNX files, run by onnxruntime: without gradients.

A file comes from strangers. Before anything runs it must be a feed-forward network of known
operators, whole in itself, whose every array is bounded: see ``check_onnx``.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, TensorProto
from torch import Tensor, nn

from shared.memory import is_out_of_memory

MOST_NODES = 10_000
MOST_ELEMENTS = 2**26  # of one array between two operators, for one face
SIDES = (32, 512)  # of the input
LENGTHS = (16, 4096)  # of an embedding
DOMAINS = ("", "ai.onnx")
# What embedding networks are made of. No loops or branches: their time and memory have no bound.
_NAMES = """
    Add AveragePool BatchNormalization Cast Clip Concat Constant Conv Div Dropout Elu Erf
    Exp Flatten Gather Gelu Gemm GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish
    Identity InstanceNormalization LayerNormalization LeakyRelu LpNormalization MatMul Max
    MaxPool Min Mul Neg PRelu Pad Pow ReduceL2 ReduceMean ReduceSum Relu Reshape Selu Shape
    Sigmoid Slice Softmax Softplus Split Sqrt Squeeze Sub Tanh Transpose Unsqueeze
"""
OPERATORS = frozenset(_NAMES.split())


class OnnxRejectedError(ValueError):
    """The file is no embedding network that can be run safely; says why."""


@dataclass(frozen=True)
class Layout:
    """What the network takes and gives."""

    side: int
    channels_last: bool
    batch: int | None  # ``None``: any
    length: int


def check_onnx(data: bytes) -> Layout:
    """Return the layout of an embedding network's file; raises ``OnnxRejectedError``.

    One input of square faces in three channels, one output of embeddings. No external data, no
    operators or functions of others, no control flow; shapes that can be inferred and are bounded.
    """
    model = _parsed(data)
    if model.functions or any(entry.domain not in DOMAINS for entry in model.opset_import):
        raise OnnxRejectedError("it brings operators of its own")
    nodes = list(model.graph.node)
    if not 0 < len(nodes) <= MOST_NODES:
        raise OnnxRejectedError(f"it has {len(nodes)} nodes; 1 to {MOST_NODES} are taken")
    for node in nodes:
        if node.domain not in DOMAINS or node.op_type not in OPERATORS:
            raise OnnxRejectedError(f"the operator {node.domain or 'ai.onnx'}.{node.op_type}")
    for tensor in _tensors(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise OnnxRejectedError(f"{tensor.name!r} lies in another file")
    layout = _layout(model.graph)
    _bound(model)
    return layout


def _parsed(data: bytes) -> ModelProto:
    if not data:
        raise OnnxRejectedError("the file is empty")
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, RuntimeError) as error:
        raise OnnxRejectedError("it is not an ONNX file") from error
    return model


def _tensors(graph: GraphProto) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                raise OnnxRejectedError(f"{node.op_type} holds a graph")
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            sparse_ones = [*attribute.sparse_tensors]
            if attribute.HasField("sparse_tensor"):
                sparse_ones.append(attribute.sparse_tensor)
            for sparse in sparse_ones:
                yield from (sparse.values, sparse.indices)


def _layout(graph: GraphProto) -> Layout:
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise OnnxRejectedError("it does not have one input and one output")
    given = inputs[0].type.tensor_type
    if given.elem_type != TensorProto.FLOAT:
        raise OnnxRejectedError("its input is not float32")
    shape = _sizes(given.shape.dim)
    if len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise OnnxRejectedError(f"its input has the shape {shape}, not (N, 3, S, S)")
    last = shape[1] != 3
    height, width = shape[1:3] if last else shape[2:4]
    if height != width or height is None or not SIDES[0] <= height <= SIDES[1]:
        raise OnnxRejectedError(f"its input is {height} x {width} pixels")
    out = _sizes(graph.output[0].type.tensor_type.shape.dim)
    length = out[-1] if out else None
    if length is None or not LENGTHS[0] <= length <= LENGTHS[1]:
        raise OnnxRejectedError(f"its output has the shape {out}, not (N, D)")
    return Layout(height, last, shape[0], length)


def _sizes(dimensions: Iterable[Any]) -> list[int | None]:
    return [one.dim_value if one.dim_value > 0 else None for one in dimensions]


def _bound(model: ModelProto) -> None:
    """Infer the shape of every array for one face; refuse what is unknown or too large."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for value in (*copy.graph.input, *copy.graph.output):
        dimensions = value.type.tensor_type.shape.dim
        if dimensions and dimensions[0].dim_value <= 0:
            dimensions[0].dim_value = 1
    del copy.graph.value_info[:]  # what the file says of its shapes is not believed
    try:
        onnx.checker.check_model(copy)
        known = onnx.shape_inference.infer_shapes(
            copy, check_type=True, strict_mode=True, data_prop=True
        )
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        ValueError,
        RuntimeError,
    ) as error:
        reason = str(error).partition("\n")[0][:200]
        raise OnnxRejectedError(f"its shapes do not fit ({reason})") from error
    shapes = {one.name: _sizes(one.type.tensor_type.shape.dim) for one in known.graph.value_info}
    shapes |= {one.name: _sizes(one.type.tensor_type.shape.dim) for one in known.graph.output}
    for node in known.graph.node:
        for name in node.output:
            sizes = shapes.get(name) if name else []
            if sizes is None or any(size is None for size in sizes):
                raise OnnxRejectedError(f"the shape of {node.op_type}'s output cannot be told")
            if math.prod(size or 0 for size in sizes) > MOST_ELEMENTS:
                raise OnnxRejectedError(f"{node.op_type} makes an array of {sizes}")


class OnnxNetwork(nn.Module):
    """Runs an ONNX file that ``check_onnx`` accepts: ``(N, 3, S, S)`` to ``(N, D)``.

    The file's bytes are a buffer, so that it is stored and read like other weights. There are no
    gradients: it can verify, and not be searched with.
    """

    onnx: Tensor

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.layout = check_onnx(data)
        self.register_buffer("onnx", torch.frombuffer(bytearray(data), dtype=torch.uint8))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # it would write to the log of the worker
        try:
            self.session = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no base of their own
            if is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0][:200]
            raise OnnxRejectedError(f"onnxruntime refuses it ({reason})") from error
        self.input = self.session.get_inputs()[0].name

    def forward(self, faces: Tensor) -> Tensor:
        given = faces.detach().cpu().float()
        if self.layout.channels_last:
            given = given.permute(0, 2, 3, 1)
        array = np.ascontiguousarray(given.numpy())
        step = self.layout.batch or max(1, len(array))
        rows = [
            self._run(array[start : start + step], step) for start in range(0, len(array), step)
        ]
        found = np.concatenate(rows) if rows else np.zeros((0, self.layout.length), np.float32)
        return torch.from_numpy(found).to(faces.device)

    def _run(self, part: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
        missing = size - len(part) if self.layout.batch else 0
        filled = np.concatenate([part, np.repeat(part[-1:], missing, 0)]) if missing else part
        answer = np.asarray(self.session.run(None, {self.input: filled})[0], dtype=np.float32)
        return answer.reshape(len(filled), -1)[: len(part)]
