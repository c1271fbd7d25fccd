"""What attacks made of a row's images, as tensors: joined, stored and read back."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from services.worker.attacks.results import AttackBatch, AttackResult

_BOOLEANS = ("success", "met_before")
_FLOATS = ("confidence_before", "confidence_after", "l2")
_NUMBERS = tuple(
    field.name
    for field in fields(AttackResult)
    if field.name not in (*_BOOLEANS, *_FLOATS, "adversarial")
)


def join(batches: Sequence[AttackBatch]) -> AttackBatch:
    """Put runs of one attack on different images together."""
    first = batches[0]
    return AttackBatch(
        attack=first.attack,
        parameters=first.parameters,
        targeted=first.targeted,
        uses_gradients=first.uses_gradients,
        seed=first.seed,
        results=tuple(result for batch in batches for result in batch.results),
    )


def pack_batch(
    batch: AttackBatch, *, pictures: bool = True
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a run as tensors (for safetensors) and values (for JSON).

    Without ``pictures`` the attacked ones are replaced by a black pixel each.
    """
    black = torch.zeros(len(batch.results), 3, 1, 1, dtype=torch.uint8)
    tensors = {"adversarial": adversarial(batch) if pictures else black}
    for name in (*_BOOLEANS, *_FLOATS, *_NUMBERS):
        # 0 stands for no query at success: queries are counted from 1.
        column = [getattr(result, name) or 0 for result in batch.results]
        kind = torch.float64 if name in _FLOATS else torch.int64
        tensors[name] = torch.tensor(column, dtype=kind)
    values = {
        "attack": batch.attack,
        "parameters": dict(batch.parameters),
        "targeted": batch.targeted,
        "uses_gradients": batch.uses_gradients,
        "seed": batch.seed,
    }
    return tensors, values


def unpack_batch(tensors: dict[str, Tensor], values: dict[str, Any]) -> AttackBatch:
    """Return the run that ``pack_batch`` took apart."""
    columns = {name: tensors[name].tolist() for name in (*_BOOLEANS, *_FLOATS, *_NUMBERS)}
    results = []
    for row, picture in enumerate(tensors["adversarial"]):
        found: dict[str, Any] = {name: column[row] for name, column in columns.items()}
        found |= {name: bool(found[name]) for name in _BOOLEANS}
        found["query_at_success"] = found["query_at_success"] or None
        pixels = picture.permute(1, 2, 0).contiguous().numpy()
        results.append(AttackResult(**found, adversarial=pixels))
    return AttackBatch(**values, results=tuple(results))


def adversarial(batch: AttackBatch) -> Tensor:
    """Return the attacked images, uint8 ``(N, 3, H, W)``."""
    pictures = [torch.from_numpy(result.adversarial) for result in batch.results]
    return torch.stack(pictures).permute(0, 3, 1, 2).contiguous()
