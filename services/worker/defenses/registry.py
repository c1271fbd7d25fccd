"""Defenses by name."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from services.worker.defenses.base import Chain, Defense
from services.worker.defenses.carving import SeamCarving
from services.worker.defenses.filters import BitDepth, Jpeg, MedianFilter, NonLocalMeans
from services.worker.defenses.noise import Noise
from services.worker.defenses.patch_denoiser import PatchDenoiser
from services.worker.defenses.pixel_repair import PixelRepair
from services.worker.defenses.smoothing import RandomizedSmoothing
from services.worker.defenses.total_variation import TotalVariation

_DEFENSES: Mapping[str, type[Defense]] = {
    defense.name: defense
    for defense in (
        SeamCarving,
        MedianFilter,
        BitDepth,
        NonLocalMeans,
        Jpeg,
        TotalVariation,
        PixelRepair,
        PatchDenoiser,
        Noise,
        RandomizedSmoothing,
    )
}

DEFENSES = tuple(_DEFENSES)


def build_defense(name: str, *, classifier: nn.Module | None = None, **parameters: Any) -> Defense:
    """Build a defense by name with its keyword parameters.

    ``classifier`` is handed to the defenses that look at it (``pixel_repair``).
    Raises ``ValueError`` for an unknown name, an unknown or missing parameter, or a bad value.
    """
    if name not in _DEFENSES:
        raise ValueError(f"unknown defense {name!r}: use one of {DEFENSES}")
    build = _DEFENSES[name]
    accepted = inspect.signature(build).parameters
    unknown = sorted(set(parameters) - (set(accepted) - {"classifier"}))
    if unknown:
        raise ValueError(f"the defense {name!r} has no parameter {', '.join(unknown)}")
    if "classifier" in accepted:
        if classifier is None:
            raise ValueError(f"the defense {name!r} needs a classifier to look at")
        parameters["classifier"] = classifier
    missing = [
        parameter.name
        for parameter in accepted.values()
        if parameter.default is parameter.empty and parameter.name not in parameters
    ]
    if missing:
        raise ValueError(f"the defense {name!r} needs {', '.join(missing)}")
    return build(**parameters)


def build_chain(
    steps: Sequence[tuple[str, Mapping[str, Any]]], *, classifier: nn.Module | None = None
) -> Defense:
    """Build the defenses ``(name, parameters)`` as one; a single one stands for itself.

    Raises ``ValueError`` as ``build_defense`` does, for no defense at all, and where randomized
    smoothing is not the last.
    """
    if any(name == RandomizedSmoothing.name for name, _ in steps[:-1]):
        raise ValueError("smoothing comes last: it is the classifier that it smooths")
    defenses = [
        build_defense(name, classifier=classifier, **parameters) for name, parameters in steps
    ]
    return defenses[0] if len(defenses) == 1 else Chain(defenses)
