"""The report on a classifier: every figure with its interval, by class and by source."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from services.worker.evaluation.areas import average_precision, roc_area
from services.worker.evaluation.bootstrap import DRAWS, Indices, Interval, bootstrap
from services.worker.evaluation.metrics import Rate, calibration_error, wilson
from services.worker.stopping import CancelCheck

Probabilities = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Json = dict[str, Any]


@dataclass(frozen=True)
class ClassFigures:
    """One class against all others."""

    precision: Rate
    recall: Rate
    f1: Interval
    roc_area: Interval
    pr_area: Interval
    support: int


@dataclass(frozen=True)
class Summary:
    """How well a classifier does on some images.

    Rates have Wilson intervals, all else the bootstrap's, drawn by group. Macro averages are over
    the classes that have support.
    """

    images: int
    groups: int
    accuracy: Rate
    classes: dict[str, ClassFigures]
    macro_precision: Interval
    macro_recall: Interval
    macro_f1: Interval
    weighted_precision: Interval
    weighted_recall: Interval
    weighted_f1: Interval
    roc_area: Interval  # of two classes: that of the second; of more: the macro average
    calibration_error: Interval
    confusion: list[list[int]]  # rows: true class; columns: predicted


@dataclass(frozen=True)
class FullReport:
    """The summary of all images, and of those of each source."""

    names: tuple[str, ...]
    whole: Summary
    sources: dict[str, Summary]

    def document(self) -> Json:
        """Return the report as JSON values; null where a figure is not defined."""
        cleaned: Json = _without_nan(asdict(self))
        return cleaned

    def as_json(self) -> bytes:
        """Return the report as a JSON file."""
        return (json.dumps(self.document(), indent=2) + "\n").encode()

    def as_csv(self) -> bytes:
        """Return a line for each figure: source, class, figure, value, low, high, of."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["source", "class", "figure", "value", "low", "high", "of"])
        for source, summary in {"all": self.whole, **self.sources}.items():
            for name, of in {"": summary, **summary.classes}.items():
                for figure, found in vars(of).items():
                    if isinstance(found, Rate | Interval):
                        numbers = (_cell(found.value), _cell(found.low), _cell(found.high))
                        total = found.total if isinstance(found, Rate) else ""
                        writer.writerow([source, name, figure, *numbers, total])
        return buffer.getvalue().encode()


def full_report(
    probabilities: Probabilities,
    labels: Labels,
    names: Sequence[str],
    *,
    groups: Sequence[str],
    sources: Sequence[str] | None = None,
    seed: int = 0,
    draws: int = DRAWS,
    check_cancel: CancelCheck | None = None,
) -> FullReport:
    """Judge probabilities ``(N, C)`` against labels ``(N,)`` in ``0 … C - 1``.

    ``groups`` names the photo of each image, ``sources`` its collection (reported apart where
    there are several). Raises ``ValueError`` for no images, unlike lengths or unknown labels.
    """
    _refuse(probabilities, labels, names, groups)

    def judged(which: Indices) -> Summary:
        return _summary(
            probabilities[which],
            labels[which],
            names,
            [groups[i] for i in which],
            seed=seed,
            draws=draws,
            check_cancel=check_cancel,
        )

    parts = {}
    if sources is not None and len(set(sources)) > 1:
        column = np.asarray(sources)
        parts = {name: judged(np.flatnonzero(column == name)) for name in sorted(set(sources))}
    return FullReport(tuple(names), judged(np.arange(len(labels))), parts)


def _refuse(
    probabilities: Probabilities, labels: Labels, names: Sequence[str], groups: Sequence[str]
) -> None:
    if not len(labels):
        raise ValueError("there are no images to judge by")
    if probabilities.shape != (len(labels), len(names)) or len(groups) != len(labels):
        raise ValueError(
            f"{len(labels)} labels of {len(names)} classes do not go with probabilities "
            f"{probabilities.shape} and {len(groups)} groups"
        )
    if labels.min() < 0 or labels.max() >= len(names):
        raise ValueError(f"labels must lie in 0..{len(names) - 1}")


def _summary(
    probabilities: Probabilities,
    labels: Labels,
    names: Sequence[str],
    groups: Sequence[str],
    *,
    seed: int,
    draws: int,
    check_cancel: CancelCheck | None,
) -> Summary:
    classes = list(range(len(names)))
    matrix = confusion_matrix(labels, probabilities.argmax(1), labels=classes)
    found = bootstrap(
        lambda which: _figures(probabilities[which], labels[which]),
        groups,
        seed=seed,
        draws=draws,
        check_cancel=check_cancel,
    )
    return Summary(
        images=len(labels),
        groups=len(set(groups)),
        accuracy=wilson(int(np.trace(matrix)), len(labels)),
        classes={
            name: ClassFigures(
                precision=wilson(int(matrix[i, i]), int(matrix[:, i].sum())),
                recall=wilson(int(matrix[i, i]), int(matrix[i].sum())),
                f1=found[f"f1 {i}"],
                roc_area=found[f"roc {i}"],
                pr_area=found[f"pr {i}"],
                support=int(matrix[i].sum()),
            )
            for i, name in enumerate(names)
        },
        macro_precision=found["macro precision"],
        macro_recall=found["macro recall"],
        macro_f1=found["macro f1"],
        weighted_precision=found["weighted precision"],
        weighted_recall=found["weighted recall"],
        weighted_f1=found["weighted f1"],
        roc_area=found["roc"],
        calibration_error=found["calibration error"],
        confusion=matrix.tolist(),
    )


def _figures(probabilities: Probabilities, labels: Labels) -> dict[str, float]:
    """Return the figures that have bootstrap intervals."""
    count = probabilities.shape[1]
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, probabilities.argmax(1), labels=list(range(count)), zero_division=0.0
    )
    seen, shares = support > 0, support / support.sum()
    figures = {}
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        figures[f"macro {name}"] = float(values[seen].mean())
        figures[f"weighted {name}"] = float((values * shares).sum())
    areas = []
    for i in range(count):
        positive = labels == i
        areas.append(roc_area(probabilities[:, i], positive))
        figures[f"f1 {i}"] = float(f1[i]) if seen[i] else math.nan
        figures[f"roc {i}"] = areas[-1]
        figures[f"pr {i}"] = average_precision(probabilities[:, i], positive)
    known = [area for area in areas if not math.isnan(area)]
    macro = float(np.mean(known)) if known else math.nan
    figures["roc"] = areas[-1] if count == 2 else macro
    figures["calibration error"] = calibration_error(probabilities, labels)
    return figures


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return value


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
