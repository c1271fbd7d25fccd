"""Reports as pictures: one page of matrix, curves and reliability, and the worst errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.metrics import precision_recall_curve, roc_curve
from torch import Tensor

from services.worker.encoding import figure_png, jpeg
from services.worker.evaluation.report import FullReport, Labels, Probabilities

BINS = 15
TILE, TEXT, COLUMNS = 112, 34, 8
MOST_ERRORS = 48


@dataclass(frozen=True)
class Bin:
    """A bin of confidence: how many answers fall in it, how sure and how right they are."""

    count: int
    confidence: float
    accuracy: float


def reliability(
    probabilities: Probabilities, labels: Labels, *, bins: int = BINS
) -> tuple[Bin, ...]:
    """Return the bins that hold answers, by rising confidence (Guo et al. 2017)."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    return tuple(
        Bin(int(mine.sum()), float(confidence[mine].mean()), float(right[mine].mean()))
        for mine in (which == number for number in range(bins))
        if mine.any()
    )


def draw_report(
    report: FullReport, probabilities: Probabilities, labels: Labels, *, title: str
) -> bytes:
    """Draw confusion matrix, ROC, precision-recall and reliability; returns a PNG."""
    figure = Figure(figsize=(11, 10), dpi=110)
    (matrix, roc), (pr, calibration) = figure.subplots(2, 2)
    _draw_matrix(matrix, report)
    for i, name in enumerate(report.names):
        positive = labels == i
        if not positive.any() or positive.all():
            continue
        figures = report.whole.classes[name]
        false, true, _ = roc_curve(positive, probabilities[:, i])
        roc.plot(false, true, label=f"{_plain(name)}: {figures.roc_area.value:.3f}")
        precision, recall, _ = precision_recall_curve(positive, probabilities[:, i])
        pr.plot(recall, precision, label=f"{_plain(name)}: {figures.pr_area.value:.3f}")
    roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC, area")
    pr.set(xlabel="recall", ylabel="precision", title="precision and recall, area")
    _draw_reliability(calibration, reliability(probabilities, labels))
    error = report.whole.calibration_error.value
    calibration.set(title=f"reliability, expected calibration error {error:.3f}")
    for axes in (roc, pr, calibration):
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.grid(visible=True, alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right" if axes is roc else "lower left")
    figure.suptitle(f"{title}: accuracy {report.whole.accuracy}")
    figure.tight_layout()
    return figure_png(figure)


def draw_errors(
    images: Tensor, probabilities: Probabilities, labels: Labels, names: Sequence[str]
) -> bytes | None:
    """Draw the most confident errors, worst first, as a JPEG; ``None`` if there are none.

    ``images`` are uint8 ``(N, 3, H, W)``.
    """
    answers = probabilities.argmax(1)
    wrong = np.flatnonzero(answers != labels)
    if not len(wrong):
        return None
    own = probabilities[wrong, labels[wrong]]
    worst = wrong[np.argsort(own, kind="stable")][:MOST_ERRORS]
    rows = -(-len(worst) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (TILE + 4), rows * (TILE + TEXT)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=11)
    for place, index in enumerate(worst):
        left, top = place % COLUMNS * (TILE + 4), place // COLUMNS * (TILE + TEXT)
        picture = Image.fromarray(images[int(index)].permute(1, 2, 0).contiguous().numpy())
        sheet.paste(picture.resize((TILE, TILE), Image.Resampling.NEAREST), (left, top))
        given, true = (_plain(names[int(of[index])])[:17] for of in (answers, labels))
        draw.text((left + 2, top + TILE + 1), f"is {true}", fill="black", font=font)
        said = f"{given} {probabilities[index].max():.0%}"
        draw.text((left + 2, top + TILE + 16), said, fill="#B22222", font=font)
    return jpeg(sheet)


def _draw_matrix(axes: Axes, report: FullReport) -> None:
    counts: NDArray[Any] = np.asarray(report.whole.confusion)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [_plain(name) for name in report.names]
    axes.set(xlabel="predicted", ylabel="true", title="confusion matrix")
    axes.set_xticks(range(len(names)), names, rotation=20 if len(names) > 2 else 0)
    axes.set_yticks(range(len(names)), names)
    if len(names) > 12:
        return
    for row in range(len(names)):
        for column in range(len(names)):
            color = "white" if shares[row, column] > 0.5 else "black"
            text = f"{counts[row, column]}\n{shares[row, column]:.1%}"
            axes.text(column, row, text, ha="center", va="center", color=color)


def _draw_reliability(axes: Axes, bins: Sequence[Bin]) -> None:
    axes.plot([0, 1], [0, 1], color="gray", linestyle=":")
    largest = max(part.count for part in bins)
    sizes = [20 + 180 * part.count / largest for part in bins]
    confidence, accuracy = ([getattr(p, of) for p in bins] for of in ("confidence", "accuracy"))
    axes.plot(confidence, accuracy, color="C0", alpha=0.5)
    axes.scatter(confidence, accuracy, s=sizes, color="C0")
    axes.set(xlabel="confidence", ylabel="accuracy")


def _plain(name: str) -> str:
    return name.replace("_", " ")
