"""How probably a strong recognizer that nobody asked still matches a cloaked face.

A logistic regression on what is known of a delivered face, learned on people of ``faces/train``
with recognizers' lineages left out: searched with some, judged by one that was neither searched
with nor asked (``research.train.cloak_verdict``). The coefficients lie beside this file.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from services.worker.faces.crops import Pixels

FILE = Path(__file__).with_name("calibration.json")
FEATURES = (
    "lineages",
    "surrogate_margin",
    "judge_margin",
    "dissimilarity",
    "face_size",
    "sharpness",
    "weak_unseen",
)
MOST_PROBABLE = 0.05  # of a match, for a face that is called protected
Z = 1.96  # of a normal distribution's 95 %


@dataclass(frozen=True)
class Evidence:
    """What is known of one delivered face.

    Margins are a recognizer's threshold of one false accept in 100 less the highest similarity of
    the delivered face and its copies to the clean one: of the surrogate and of the judge that
    have the least. ``lineages`` counts strong ones that were searched with, ``side`` is the inner
    crop's side in pixels of the photo.
    """

    lineages: int
    surrogate_margin: float
    judge_margin: float
    ssim: float
    side: float
    sharpness: float
    # Of rows to learn from: whether the recognizer that was left out is itself a weak one. What is
    # asked for is always a strong one.
    weak_unseen: bool = False

    def features(self) -> tuple[float, ...]:
        """Return the numbers that the regression takes, in the order of ``FEATURES``."""
        return (
            float(self.lineages),
            self.surrogate_margin,
            self.judge_margin,
            math.log(max(1e-4, 1 - self.ssim)),
            math.log(max(1.0, self.side)),
            self.sharpness,
            float(self.weak_unseen),
        )


@dataclass(frozen=True)
class Estimate:
    """The probability of a match with its 95 % interval."""

    probability: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """A fitted regression; ``covariance`` is that of bias and coefficients, ``(1 + F, 1 + F)``."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def estimate(self, evidence: Evidence) -> Estimate:
        """Return how probably an unseen strong recognizer matches the face."""
        # Beyond what was learned from, the nearest that was stands for it.
        scaled = np.clip((np.array(evidence.features()) - self.mean) / self.scale, -3, 3)
        row = np.concatenate([[1.0], scaled])
        logit = float(row @ self.coefficients)
        spread = Z * math.sqrt(max(0.0, float(row @ self.covariance @ row)))
        low, middle, high = (_sigmoid(logit + part) for part in (-spread, 0.0, spread))
        return Estimate(middle, low, high)


def fit(rows: Sequence[Evidence], matched: Sequence[bool], *, ridge: float = 1.0) -> Calibration:
    """Fit the regression by Newton's method with an L2 penalty on all but the bias.

    The covariance is the inverse of the penalized likelihood's curvature. Raises ``ValueError``
    where all faces were matched, or none.
    """
    if len(set(matched)) < 2:
        raise ValueError("all faces were matched, or none: there is nothing to learn from")
    raw = np.array([row.features() for row in rows])
    truth = np.array(matched, dtype=np.float64)
    mean, scale = raw.mean(0), raw.std(0)
    scale = np.where(scale < 1e-9, 1.0, scale)
    design = np.concatenate([np.ones((len(raw), 1)), (raw - mean) / scale], 1)
    penalty = ridge * np.eye(design.shape[1])
    penalty[0, 0] = 0.0
    coefficients = np.zeros(design.shape[1])
    curvature = penalty
    for _ in range(100):
        shares = 1 / (1 + np.exp(-(design @ coefficients).clip(-30, 30)))
        weights = (shares * (1 - shares)).clip(min=1e-9)
        curvature = design.T @ (weights[:, None] * design) + penalty
        step = np.linalg.solve(curvature, design.T @ (truth - shares) - penalty @ coefficients)
        coefficients = coefficients + step.clip(-2, 2)
        if float(np.abs(step).max()) < 1e-8:
            break
    return Calibration(
        mean, scale, coefficients, np.asarray(np.linalg.inv(curvature), dtype=np.float64)
    )


def sharpness(frame: Pixels) -> float:
    """Return the logarithm of the Laplacian's spread on an aligned face: low where blurred."""
    gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return math.log(1.0 + float(cv2.Laplacian(gray, cv2.CV_64F).std()))


def write(calibration: Calibration, card: dict[str, object], path: Path = FILE) -> None:
    """Write a regression with what it was learned from."""
    parts = {
        "features": list(FEATURES),
        "mean": _rounded(calibration.mean),
        "scale": _rounded(calibration.scale),
        "coefficients": _rounded(calibration.coefficients),
        "covariance": [_rounded(row) for row in calibration.covariance],
    }
    path.write_text(json.dumps({"card": card, **parts}, indent=1) + "\n", encoding="utf-8")


@cache
def shipped(path: Path = FILE) -> Calibration:
    """Read the regression that ships; raises ``ValueError`` for one of other features."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    if tuple(stored["features"]) != FEATURES:
        raise ValueError(f"{path.name} is a regression on {stored['features']}")
    fields = ("mean", "scale", "coefficients", "covariance")
    return Calibration(*(np.array(stored[name], dtype=np.float64) for name in fields))


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 6) for value in values]


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, logit))))
