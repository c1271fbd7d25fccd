"""A training state as bytes: tensors as safetensors, everything else as JSON. No pickle."""

import json
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from services.worker.training.loop import State

_TENSOR = "tensor:"
_INTEGER_KEYS = "integer keys"


def pack(state: State) -> tuple[bytes, str]:
    """Return a state of the training loop as safetensors bytes and a JSON document."""
    tensors: dict[str, Tensor] = {}
    document = json.dumps(_outline(state, "", tensors))
    return save(tensors), document


def unpack(tensors: bytes, document: str) -> State:
    """Return the state that ``pack`` took apart.

    Raises ``ValueError`` when the document names a tensor that is not there.
    """
    state: State = _filled(json.loads(document), load(tensors))
    return state


def _outline(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Replace the tensors in nested mappings and lists by their names."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()
        return f"{_TENSOR}{name}"
    if isinstance(value, dict):
        parts = {str(key): _outline(v, f"{name}/{key}", tensors) for key, v in value.items()}
        # The optimizer numbers its parameters; JSON keys are strings.
        whole = bool(value) and all(isinstance(key, int) for key in value)
        return {_INTEGER_KEYS: parts} if whole else parts
    if isinstance(value, list | tuple):
        return [_outline(part, f"{name}/{i}", tensors) for i, part in enumerate(value)]
    return value


def _filled(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, str) and value.startswith(_TENSOR):
        name = value.removeprefix(_TENSOR)
        if name not in tensors:
            raise ValueError(f"the checkpoint lacks the tensor {name!r}")
        return tensors[name]
    if isinstance(value, dict):
        if set(value) == {_INTEGER_KEYS}:
            return {int(key): _filled(v, tensors) for key, v in value[_INTEGER_KEYS].items()}
        return {key: _filled(v, tensors) for key, v in value.items()}
    if isinstance(value, list):
        return [_filled(part, tensors) for part in value]
    return value
