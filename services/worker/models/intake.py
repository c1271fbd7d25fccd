"""Checks weights from strangers before they are taken in."""

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from services.worker.models.architectures import build
from services.worker.models.registry import LoadedModel, ModelUnavailableError, assemble
from shared.model_card import ModelCard

_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int64)
_SHOWN = 5


class ModelRejectedError(ValueError):
    """The weights are not those of a model that can be served; says why."""


def check_weights(
    card: ModelCard, data: bytes, *, device: torch.device | str = "cpu"
) -> LoadedModel:
    """Return the model that ``data``, a safetensors file, holds; raises ``ModelRejectedError``.

    Names, shapes and types of the tensors must be the architecture's; all values finite, and so
    the answers to a gray picture. Nothing is unpickled.
    """
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ModelRejectedError(f"it is not a safetensors file ({error})") from error
    try:
        blank = build(card.architecture, classes=card.classes, input_size=card.input_size[0])
    except ValueError as error:
        raise ModelRejectedError(str(error)) from error
    _compare(tensors, blank.state_dict())
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


def _compare(given: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    missing, foreign = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    if missing or foreign:
        parts = [f"{_list(missing)} missing"] * bool(missing)
        parts += [f"{_list(foreign)} too many"] * bool(foreign)
        raise ModelRejectedError(f"the tensors are not the architecture's: {'; '.join(parts)}")
    for name, tensor in given.items():
        shape = tuple(wanted[name].shape)
        if tuple(tensor.shape) != shape:
            raise ModelRejectedError(f"{name} has shape {tuple(tensor.shape)}, not {shape}")
        same_kind = tensor.is_floating_point() == wanted[name].is_floating_point()
        if tensor.dtype not in _DTYPES or not same_kind:
            raise ModelRejectedError(f"{name} has the type {tensor.dtype}")
        if not bool(torch.isfinite(tensor).all()):
            raise ModelRejectedError(f"{name} holds values that are not finite")


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
