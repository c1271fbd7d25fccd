"""What attacks made of a line's pictures, kept beside the pages: numbers, and no pictures.

A machine that starts with an empty cache goes on where another one stopped.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Chunk = tuple[dict[str, Tensor], dict[str, Any]]


@dataclass(frozen=True)
class Kept:
    """The folder with a JSON file a line: chunks by what they depend on."""

    folder: Path

    def chunk(self, line: str, identity: str) -> Chunk | None:
        """Return a chunk, its pictures black, if it is there."""
        document = self._read(line).get(identity)
        if document is None:
            return None
        columns: dict[str, list[float]] = document["columns"]
        tensors = {name: _tensor(column) for name, column in columns.items()}
        count = len(next(iter(columns.values())))
        tensors["adversarial"] = torch.zeros(count, 3, 1, 1, dtype=torch.uint8)
        return tensors, document["values"]

    def keep(self, line: str, chunks: Mapping[str, Chunk]) -> None:
        """Keep these chunks of a line and no others: those of other weights have no use."""
        document = {
            identity: {
                "columns": {
                    name: tensor.tolist()
                    for name, tensor in tensors.items()
                    if name != "adversarial"
                },
                "values": values,
            }
            for identity, (tensors, values) in chunks.items()
        }
        lines = (
            f"{json.dumps(identity)}: {json.dumps(chunk, separators=(',', ':'))}"
            for identity, chunk in document.items()
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self._file(line).with_suffix(".part")
        part.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        part.replace(self._file(line))

    def _file(self, line: str) -> Path:
        return self.folder / f"{line}.json"

    def _read(self, line: str) -> dict[str, Any]:
        file = self._file(line)
        if not file.is_file():
            return {}
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found


def _tensor(column: list[float]) -> Tensor:
    has_floats = any(isinstance(value, float) for value in column)
    return torch.tensor(column, dtype=torch.float64 if has_floats else torch.int64)
