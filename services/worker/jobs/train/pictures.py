"""Losses and accuracies by epoch, as a picture."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from services.worker.encoding import figure_png
from services.worker.training.history import Epoch


def draw_curves(history: Sequence[Epoch], best: Epoch, *, title: str) -> bytes:
    """Return a PNG; a line marks the epoch whose weights were kept."""
    figure = Figure(figsize=(10, 4), dpi=120)
    losses, accuracies = figure.subplots(1, 2)
    numbers = [epoch.number + 1 for epoch in history]
    losses.plot(numbers, [e.train_loss for e in history], ".-", label="training")
    losses.plot(numbers, [e.val_loss for e in history], ".-", label="validation")
    losses.set(xlabel="epoch", ylabel="loss", yscale="log")
    accuracies.plot(numbers, [e.train_accuracy for e in history], ".-", label="training")
    accuracies.plot(numbers, [e.val_accuracy for e in history], ".-", label="validation")
    robust = [(e.number + 1, e.robust_accuracy) for e in history if e.robust_accuracy is not None]
    if robust:
        accuracies.plot(*zip(*robust, strict=True), ".-", label="validation, perturbed")
    accuracies.set(xlabel="epoch", ylabel="accuracy", ylim=(-0.02, 1.02))
    for axes in (losses, accuracies):
        axes.axvline(best.number + 1, color="gray", linestyle=":", label="kept")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    return figure_png(figure)
