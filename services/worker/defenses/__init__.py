"""Defenses of classifiers: transformations, detectors, certificates."""

from typing import TYPE_CHECKING

from services.worker.public import lazy

if TYPE_CHECKING:
    from services.worker.defenses.base import Chain, Defense
    from services.worker.defenses.carving import SeamCarving
    from services.worker.defenses.registry import build_chain, build_defense
    from services.worker.defenses.smoothing import RandomizedSmoothing
    from services.worker.defenses.squeezing import SqueezingDetector
    from services.worker.defenses.through import DefendedClassifier

__all__ = [
    "Chain",
    "DefendedClassifier",
    "Defense",
    "RandomizedSmoothing",
    "SeamCarving",
    "SqueezingDetector",
    "build_chain",
    "build_defense",
]

__getattr__ = lazy(
    __name__,
    {
        "base": (
            "Chain",
            "Defense",
        ),
        "carving": ("SeamCarving",),
        "registry": (
            "build_chain",
            "build_defense",
        ),
        "smoothing": ("RandomizedSmoothing",),
        "squeezing": ("SqueezingDetector",),
        "through": ("DefendedClassifier",),
    },
)
