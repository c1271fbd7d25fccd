"""Architectures, the model wrapper, the registry and its weights."""

from typing import TYPE_CHECKING

from services.worker.public import lazy

if TYPE_CHECKING:
    from services.worker.models.architectures import build
    from services.worker.models.base import Classifier
    from services.worker.models.registry import (
        LoadedModel,
        find_models,
        load_classifier,
        load_model,
    )

__all__ = [
    "Classifier",
    "LoadedModel",
    "build",
    "find_models",
    "load_classifier",
    "load_model",
]

__getattr__ = lazy(
    __name__,
    {
        "architectures": ("build",),
        "base": ("Classifier",),
        "registry": (
            "LoadedModel",
            "find_models",
            "load_classifier",
            "load_model",
        ),
    },
)
