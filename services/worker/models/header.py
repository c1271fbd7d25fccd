"""The header of a safetensors file: names, types and shapes, before any tensor is read.

Imports no PyTorch, so that a file that is none is refused at once.
"""

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO

# The largest network here has 727 tensors in a header of 80 KB.
MOST_HEADER_BYTES = 4 * 2**20
MOST_TENSORS = 20_000
MOST_SIDES = 8
_SHOWN = 5
_SHOWN_LETTERS = 80


class ModelRejectedError(ValueError):
    """The weights are not those of a model that can be served; says why."""


@dataclass(frozen=True)
class TensorHeader:
    """Type, as safetensors names it, and shape of a tensor."""

    dtype: str
    shape: tuple[int, ...]


def read_header(file: IO[bytes]) -> dict[str, TensorHeader]:
    """Read the header of a safetensors file; raises ``ModelRejectedError``."""
    file.seek(0)
    start = file.read(8)
    if len(start) < 8:
        raise ModelRejectedError("it is not a safetensors file (it has fewer than 8 bytes)")
    size = struct.unpack("<Q", start)[0]
    if size > MOST_HEADER_BYTES:
        raise ModelRejectedError(
            f"it is not a safetensors file (its header would have {size} bytes; "
            f"{MOST_HEADER_BYTES} are read)"
        )
    data = file.read(size)
    if len(data) < size:
        raise ModelRejectedError("it is not a safetensors file (it ends within its header)")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelRejectedError("it is not a safetensors file (its header is no JSON)") from error
    if not isinstance(document, dict):
        raise ModelRejectedError("it is not a safetensors file (its header is no object)")
    document.pop("__metadata__", None)
    if len(document) > MOST_TENSORS:
        raise ModelRejectedError(f"it has {len(document)} tensors; {MOST_TENSORS} are read")
    return {name: _tensor(name, entry) for name, entry in document.items()}


def _tensor(name: str, entry: object) -> TensorHeader:
    if isinstance(entry, dict):
        dtype, shape = entry.get("dtype"), entry.get("shape")
        if isinstance(dtype, str) and isinstance(shape, list) and len(shape) <= MOST_SIDES:
            sides = tuple(side for side in shape if type(side) is int)
            if len(sides) == len(shape):
                return TensorHeader(dtype[:20], sides)
    raise ModelRejectedError(f"the header does not say what {shown(name)} is")


def compare(
    given: Mapping[str, TensorHeader],
    wanted: Mapping[str, tuple[int, ...]],
) -> None:
    """Refuse tensors of other names or shapes than those of the architecture."""
    missing, foreign = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    if missing or foreign:
        parts = [f"{listed(missing)} missing"] * bool(missing)
        parts += [f"{listed(foreign)} too many"] * bool(foreign)
        raise ModelRejectedError(f"the tensors are not the architecture's: {'; '.join(parts)}")
    for name, shape in wanted.items():
        if given[name].shape != shape:
            told = str(given[name].shape)[:200]
            raise ModelRejectedError(f"{shown(name)} has shape {told}, not {shape}")


def listed(names: Iterable[str]) -> str:
    """Name a few, and say how many more there are."""
    all_names = list(names)
    told = ", ".join(shown(name) for name in all_names[:_SHOWN])
    more = len(all_names) - _SHOWN
    return told if more <= 0 else f"{told} and {more} more"


def shown(name: str) -> str:
    """Return a stranger's name for a sentence: what prints of it, cut with its length said."""
    cut = name[:_SHOWN_LETTERS]
    told = cut if cut.isprintable() else ascii(cut)
    return told if len(name) <= _SHOWN_LETTERS else f"{told}… ({len(name)} characters)"
