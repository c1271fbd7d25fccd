"""Takes an operator's own file of weights into the folder of models."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from services.worker.models.intake import ModelRejectedError, check_weights
from shared.memory import is_out_of_memory
from shared.model_card import CARD_FILE, WEIGHTS_FILE, ModelCard

__all__ = ["ModelRejectedError", "import_file"]


def import_file(file: Path, root: Path, *, sha256: str, **card_fields: Any) -> ModelCard:
    """Write ``<root>/<id>/`` from a ``.pt`` or ``.safetensors`` file; returns the card.

    The hash is checked before the file is parsed. Of a ``.pt`` file only tensors are read
    (``weights_only``), either as a mapping of names or in one under ``state_dict`` or ``model``.
    Raises ``ModelRejectedError``, and ``OSError`` for a file that cannot be read.
    """
    data = file.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256.lower():
        raise ModelRejectedError(f"{file.name} has SHA-256 {found}, not {sha256}")
    folder = root / str(card_fields["id"])
    if folder.exists():
        raise ModelRejectedError(f"there is a model {card_fields['id']!r} already")
    weights = data if file.suffix == ".safetensors" else save(tensors_of(data, file.name))
    digest = hashlib.sha256(weights).hexdigest()
    card = ModelCard.model_validate({"sha256": digest, "size": len(weights), **card_fields})
    check_weights(card, weights)
    folder.mkdir(parents=True)
    (folder / WEIGHTS_FILE).write_bytes(weights)
    (folder / CARD_FILE).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return card


def tensors_of(data: bytes, name: str) -> dict[str, Tensor]:
    """Read the tensors of a ``.pt`` file and nothing else; raises ``ModelRejectedError``."""
    try:
        # Of the bytes that were hashed: the file could be another one by now.
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling refuses in many ways
        if is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0][:200]
        raise ModelRejectedError(f"{name} holds more than tensors ({reason})") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ModelRejectedError(f"{name} is not a mapping of names to tensors")
    return {key: tensor.contiguous() for key, tensor in content.items()}
