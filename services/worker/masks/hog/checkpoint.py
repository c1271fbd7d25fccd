"""The state of an annealing as bytes: arrays and JSON in one safetensors file. No pickle."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from services.worker.masks.hog.objectives import Rating
from services.worker.masks.hog.pattern import State


@dataclass
class AnnealingState:
    """Everything that the next step depends on, and the past."""

    step: int
    evaluations: int
    spread: float
    current_state: State
    best_state: State
    start: Rating
    current: Rating
    best: Rating
    history: list[tuple[float, float, float]]


def pack(checkpoint: AnnealingState, settings: Mapping[str, object]) -> bytes:
    """Return a safetensors file with the state and the settings of its run."""
    document = {
        "settings": settings,
        "step": checkpoint.step,
        "evaluations": checkpoint.evaluations,
        "spread": checkpoint.spread,
        **{name: asdict(getattr(checkpoint, name)) for name in ("start", "current", "best")},
    }
    arrays = {
        "current_state": np.ascontiguousarray(checkpoint.current_state),
        "best_state": np.ascontiguousarray(checkpoint.best_state),
        "history": np.array(checkpoint.history, dtype=np.float64).reshape(-1, 3),
        "document": np.frombuffer(json.dumps(document).encode(), dtype=np.uint8),
    }
    return save(arrays)


def unpack(data: bytes, settings: Mapping[str, object]) -> AnnealingState:
    """Return the state that ``pack`` wrote.

    Raises ``ValueError`` when the data are no checkpoint, or their run had other settings.
    """
    try:
        arrays = load(data)
        document = json.loads(arrays["document"].tobytes())
        earlier = document["settings"]
        ratings = {name: _rating(document[name]) for name in ("start", "current", "best")}
        checkpoint = AnnealingState(
            step=document["step"],
            evaluations=document["evaluations"],
            spread=document["spread"],
            current_state=arrays["current_state"],
            best_state=arrays["best_state"],
            history=[(float(a), float(b), float(c)) for a, b, c in arrays["history"]],
            **ratings,
        )
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"this is no checkpoint of an annealing: {error}") from error
    if differing := [name for name in settings if earlier.get(name) != settings[name]]:
        raise ValueError(f"the checkpoint is of a run with other {', '.join(differing)}")
    return checkpoint


def _rating(document: dict[str, Any]) -> Rating:
    first, second = document["rank"]
    return Rating(
        document["fitness"], document["found"], tuple(document["scores"]), (first, second)
    )
