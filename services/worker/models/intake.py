"""Checks weights from strangers before they are taken in."""

import io

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from services.worker.models.architectures import build
from services.worker.models.header import (
    ModelRejectedError,
    TensorHeader,
    compare,
    read_header,
    shown,
)
from services.worker.models.registry import LoadedModel, ModelUnavailableError, assemble
from shared.model_card import ModelCard

_DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
}
_OTHER_DTYPES = {"F64": "float64"}

__all__ = ["ModelRejectedError", "check_weights"]


def check_weights(
    card: ModelCard, data: bytes, *, device: torch.device | str = "cpu"
) -> LoadedModel:
    """Return the model that ``data``, a safetensors file, holds; raises ``ModelRejectedError``.

    Names, shapes and types of the tensors must be the architecture's, which is known before any
    memory is taken for it; all values finite, and so the answers to a gray picture. Nothing is
    unpickled.
    """
    header = read_header(io.BytesIO(data))
    wanted = _expected(card)
    compare(header, {name: tuple(tensor.shape) for name, tensor in wanted.items()})
    _check_types(header, wanted)
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ModelRejectedError(f"it is not a safetensors file ({str(error)[:200]})") from error
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelRejectedError(f"{shown(name)} holds values that are not finite")
    floats = {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}
    try:
        loaded = assemble(card, floats, device=device)
    except ModelUnavailableError as error:
        raise ModelRejectedError(str(error)) from error
    with torch.inference_mode():
        gray = torch.full((1, 3, *card.input_size), 0.5, device=loaded.device)
        if not bool(torch.isfinite(loaded.classifier(gray)).all()):
            raise ModelRejectedError("its answer to a gray picture is not finite")
    return loaded


def _expected(card: ModelCard) -> dict[str, Tensor]:
    """Return the architecture's tensors, without their memory."""
    try:
        with torch.device("meta"):
            blank = build(card.architecture, classes=card.classes, input_size=card.input_size[0])
    except ValueError as error:
        raise ModelRejectedError(str(error)) from error
    return blank.state_dict()


def _check_types(header: dict[str, TensorHeader], wanted: dict[str, Tensor]) -> None:
    for name, tensor in header.items():
        dtype = _DTYPES.get(tensor.dtype)
        if dtype is None or dtype.is_floating_point != wanted[name].is_floating_point():
            told = _OTHER_DTYPES.get(tensor.dtype) or str(dtype or tensor.dtype)
            raise ModelRejectedError(f"{shown(name)} has the type {told}")
