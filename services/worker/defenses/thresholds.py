"""Thresholds of the squeezing detector, calibrated for single models and stored beside this module.

A threshold belongs to the very weights that it was set for: it is found by their SHA-256.
``research.train.detector_threshold`` writes the file.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

THRESHOLDS = Path(__file__).parent / "squeezing_thresholds.json"


@dataclass(frozen=True)
class KnownThreshold:
    """A threshold with all that it rests on.

    model, sha256: the model's id and the hash of its weights.
    threshold: images with a score above it are suspicious; 0 to 2.
    target: the rate of false alarms it was set for; ``alarms`` of ``images`` clean ones gave one.
    data, fingerprint: the clean images, in words and as SHA-256 over pixels and labels.
    """

    model: str
    sha256: str
    threshold: float
    target: float
    alarms: int
    images: int
    data: str
    fingerprint: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.threshold) and 0 <= self.threshold <= 2):
            raise ValueError(f"{self.model}: a threshold is in [0, 2], not {self.threshold}")
        if not 0 <= self.alarms <= self.images:
            raise ValueError(f"{self.model}: {self.alarms} alarms of {self.images} images")


def known_threshold(sha256: str) -> KnownThreshold | None:
    """Return the threshold for the weights with this hash; ``None`` where there is none."""
    return next((known for known in _shipped() if known.sha256 == sha256), None)


def read_thresholds(path: Path = THRESHOLDS) -> tuple[KnownThreshold, ...]:
    """Read a file of thresholds; raises ``ValueError`` for one that cannot be used."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return tuple(KnownThreshold(**entry) for entry in entries)
    except TypeError as error:
        raise ValueError(f"{path.name} does not hold thresholds: {error}") from error


def write_thresholds(thresholds: Sequence[KnownThreshold], path: Path = THRESHOLDS) -> None:
    """Write a file of thresholds, by model."""
    entries = [asdict(known) for known in sorted(thresholds, key=lambda known: known.model)]
    path.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


@cache
def _shipped() -> tuple[KnownThreshold, ...]:
    return read_thresholds()
