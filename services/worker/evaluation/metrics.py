"""Figures that a reviewer would accept: rates with intervals, confusion, calibration."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Rate:
    """A proportion with its Wilson 95 % interval (Wilson 1927)."""

    successes: int
    total: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}] ({self.successes}/{self.total})"


def wilson(successes: int, total: int, *, z: float = Z95) -> Rate:
    """Return a proportion with its Wilson interval; of nothing, nan within [0, 1]."""
    if not 0 <= successes <= total:
        raise ValueError(f"{successes} successes of {total}")
    if total == 0:
        return Rate(0, 0, math.nan, 0.0, 1.0)
    value = successes / total
    shrink = 1 + z**2 / total
    center = (value + z**2 / (2 * total)) / shrink
    half = z / shrink * math.sqrt(value * (1 - value) / total + z**2 / (4 * total**2))
    return Rate(successes, total, value, max(0.0, center - half), min(1.0, center + half))


@dataclass(frozen=True)
class ClassReport:
    """Precision, recall and F1 of one class."""

    precision: float
    recall: Rate
    f1: float
    support: int


@dataclass(frozen=True)
class Report:
    """How well a classifier does on labeled images."""

    accuracy: Rate
    classes: dict[str, ClassReport]
    macro_f1: float
    weighted_f1: float
    confusion: list[list[int]]  # rows: true class; columns: predicted
    calibration_error: float
    roc_auc: float | None

    def document(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)


def report(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], names: list[str]
) -> Report:
    """Judge probabilities ``(N, C)`` against labels ``(N,)`` in ``0 … C - 1``."""
    predicted = probabilities.argmax(1)
    classes = list(range(len(names)))
    matrix = confusion_matrix(labels, predicted, labels=classes)
    precision, _, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0.0
    )
    weights = support / max(1, support.sum())
    return Report(
        accuracy=wilson(int(np.trace(matrix)), len(labels)),
        classes={
            name: ClassReport(
                precision=float(precision[i]),
                recall=wilson(int(matrix[i, i]), int(support[i])),
                f1=float(f1[i]),
                support=int(support[i]),
            )
            for i, name in enumerate(names)
        },
        macro_f1=float(f1.mean()),
        weighted_f1=float((f1 * weights).sum()),
        confusion=matrix.tolist(),
        calibration_error=calibration_error(probabilities, labels),
        roc_auc=_auc(probabilities, labels),
    )


def calibration_error(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], *, bins: int = 15
) -> float:
    """Expected calibration error (Guo et al. 2017): mean gap of confidence and accuracy."""
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence[which == b].mean() - correct[which == b].mean()) * (which == b).mean()
        for b in range(bins)
        if (which == b).any()
    ]
    return float(sum(gaps))


def _auc(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]
) -> float | None:
    """Area under the ROC curve of a binary classifier; ``None`` where it is not defined."""
    if probabilities.shape[1] != 2 or len(np.unique(labels)) != 2:
        return None
    return float(roc_auc_score(labels, probabilities[:, 1]))
