"""Adversarial face masks: put on faces, generated, trained against recognizers, printed."""

from typing import TYPE_CHECKING

from services.worker.public import lazy

if TYPE_CHECKING:
    from services.worker.masks.designs import Designs, draw
    from services.worker.masks.generators import build_generator
    from services.worker.masks.printing import as_pdf, as_png
    from services.worker.masks.training import MaskConfig, train_masks
    from services.worker.masks.wearers import Wearers, aligned_wearer, gather

__all__ = [
    "Designs",
    "MaskConfig",
    "Wearers",
    "aligned_wearer",
    "as_pdf",
    "as_png",
    "build_generator",
    "draw",
    "gather",
    "train_masks",
]

__getattr__ = lazy(
    __name__,
    {
        "designs": (
            "Designs",
            "draw",
        ),
        "generators": ("build_generator",),
        "printing": (
            "as_pdf",
            "as_png",
        ),
        "training": (
            "MaskConfig",
            "train_masks",
        ),
        "wearers": (
            "Wearers",
            "aligned_wearer",
            "gather",
        ),
    },
)
