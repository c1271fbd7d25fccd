"""What an ``evaluate`` job has done so far, so that another worker can go on from there."""

import json
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from services.worker.jobs.kit.checkpoint import CheckpointWriter
from services.worker.runtime.context import JobContext

_TENSORS, _VALUES = "done.safetensors", "done.json"


class EvaluateCheckpoint:
    """Finished pieces of work by name: tensors and JSON values, saved after each."""

    def __init__(self, context: JobContext) -> None:
        self._writer = CheckpointWriter(context)
        self._tensors: dict[str, Tensor] = {}
        self._values: dict[str, Any] = {}
        found = self._writer.load(_TENSORS, _VALUES)
        if found is not None:
            self._tensors = load(found[_TENSORS])
            self._values = json.loads(found[_VALUES])

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what was put under a name; raises ``KeyError`` where nothing was."""
        start = f"{name}|"
        tensors = {
            key.removeprefix(start): tensor
            for key, tensor in self._tensors.items()
            if key.startswith(start)
        }
        return tensors, self._values[name]

    def put(self, name: str, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Add a piece and save all."""
        kept = {f"{name}|{key}": tensor.contiguous() for key, tensor in tensors.items()}
        self._tensors |= kept
        self._values[name] = values
        self._writer.save(
            lambda: {_TENSORS: save(self._tensors), _VALUES: json.dumps(self._values).encode()},
            milestone=True,
        )

    def forget(self, name: str) -> None:
        """Drop the tensors of a piece that nobody needs any more; its values stay."""
        for key in [key for key in self._tensors if key.startswith(f"{name}|")]:
            del self._tensors[key]
