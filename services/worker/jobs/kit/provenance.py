"""What every result says of how it was made."""

from functools import cache
from importlib.metadata import version

import torch

from services.worker.models.registry import LoadedModel
from shared.results import ModelUsed


@cache
def versions() -> dict[str, str]:
    """Versions of the libraries that decide a result."""
    names = ("bauta", "torch", "torchvision", "numpy", "pillow")
    return {name: version(name) for name in names}


def model_used(loaded: LoadedModel) -> ModelUsed:
    """Name a model as it was used."""
    card = loaded.card
    return ModelUsed(id=card.id, architecture=card.architecture, sha256=card.sha256)


def device_name(device: torch.device) -> str:
    """Name a device as results do."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
