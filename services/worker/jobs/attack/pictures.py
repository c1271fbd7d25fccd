"""The pictures of an ``attack`` job: faces before and after, and success against queries."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from services.worker.attacks.results import AttackBatch, AttackResult
from services.worker.encoding import figure_png
from services.worker.faces.crops import Pixels
from services.worker.jobs.kit.pictures import Panel

SHOWN_FACES = 64
AMPLIFY = 8


def panels(
    before: Pixels, after: Pixels, outcome: AttackResult, classes: Sequence[str]
) -> tuple[Panel, ...]:
    """Return a face before, after, and the change amplified; ``(S, S, 3)`` each."""
    amplified = np.clip(128 + AMPLIFY * (after.astype(int) - before), 0, 255).astype(np.uint8)
    label_before, label_after = classes[outcome.label_before], classes[outcome.label_after]
    seen = f"{label_after.replace('_', ' ')}, true {outcome.confidence_after:.0%}"
    asked = f"{outcome.queries} queries, {outcome.gradients} gradients"
    title = "fooled" if outcome.success else "not fooled"
    return (
        Panel(before, label_before.replace("_", " "), f"{outcome.confidence_before:.0%}"),
        Panel(after, title, seen),
        Panel(amplified, f"change x {AMPLIFY}: {outcome.l0} pixels", asked),
    )


def draw_curve(batch: AttackBatch) -> bytes:
    """Plot the share of counted faces that were fooled against the queries used; a PNG."""
    figure = Figure(figsize=(6, 4), dpi=120)
    axes = figure.add_subplot()
    total = max(1, len(batch.counted))
    most = max((outcome.queries for outcome in batch.results), default=1)
    points = [(0, 0), *batch.success_curve(), (most, batch.successes)]
    axes.step([x for x, _ in points], [y / total for _, y in points], where="post")
    axes.set(xlabel="queries", ylabel="share of faces fooled", ylim=(-0.02, 1.02))
    axes.set_title(f"{batch.attack}, {len(batch.counted)} faces")
    axes.grid(visible=True, alpha=0.3)
    return figure_png(figure)
