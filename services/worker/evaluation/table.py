"""The robustness table as JSON, CSV and pictures."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from sklearn.metrics import roc_curve

from services.worker.encoding import figure_png
from services.worker.evaluation.detection import Scores
from services.worker.evaluation.metrics import Rate
from services.worker.evaluation.robustness import Certified, Comparison, Draws, Row

Json = dict[str, Any]
RADII = (0.0, 0.5, 1.0, 1.5, 2.0)  # of the smoothing's sigma
COLORS = {"clean": "#999999", "transferred": "#0072B2", "adaptive": "#D55E00"}


def document(row: Row, comparison: Comparison | None) -> Json:
    """Return a row as JSON values."""
    transferred, adaptive = row.transferred_success, row.adaptive_success
    return {
        "model": row.model,
        "model_sha256": row.sha256,
        "defense": row.defense,
        "attack": row.attack,
        "parameters": dict(row.adaptive.parameters),
        "images": len(row.indices),
        "clean_accuracy": _rate(row.clean_accuracy),
        "transferred_success": None if transferred is None else _rate(transferred),
        "adaptive_success": _rate(adaptive),
        "robust_accuracy": _rate(row.robust_accuracy),
        "median_queries": row.median_queries,
        "cost_ms": round(row.cost_ms, 4),
        "draws": None if row.draws is None else _draws(row.draws, row),
        "certified": None if row.certified is None else _certified(row.certified),
        "against_undefended": None if comparison is None else _paired(comparison),
    }


def as_csv(documents: Sequence[Json]) -> bytes:
    """Return the table as CSV: a line a row, every rate with its interval."""
    rates = ("clean_accuracy", "transferred_success", "adaptive_success", "robust_accuracy")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    header = ["model", "defense", "attack", "images"]
    for name in rates:
        header += [name, f"{name}_low", f"{name}_high", f"{name}_of"]
    header += ["median_queries", "cost_ms", "p_transferred", "p_adaptive"]
    writer.writerow(header)
    for found in documents:
        line = [found["model"], found["defense"], found["attack"], found["images"]]
        for name in rates:
            rate = found[name] or {}
            line += [rate.get(part, "") for part in ("rate", "low", "high", "total")]
        paired = found["against_undefended"] or {}
        p = [(paired.get(side) or {}).get("p", "") for side in ("transferred", "adaptive")]
        writer.writerow([*line, found["median_queries"], found["cost_ms"], *p])
    return buffer.getvalue().encode()


def draw_table(documents: Sequence[Json], *, title: str) -> bytes:
    """Draw clean accuracy and both successes of every row as bars with intervals; a PNG."""
    figure = Figure(figsize=(9, 1.6 + 0.62 * len(documents)), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    bars = (
        ("clean accuracy", "clean_accuracy", COLORS["clean"]),
        (
            "success of the attack made without the defense",
            "transferred_success",
            COLORS["transferred"],
        ),
        ("success of the attack through the defense", "adaptive_success", COLORS["adaptive"]),
    )
    for place, (label, name, color) in enumerate(bars):
        for number, found in enumerate(documents):
            rate = found[name]
            if rate is None or rate["rate"] is None:
                continue
            value, y = rate["rate"], number + 0.27 * (place - 1)
            axes.barh(y, value, 0.25, color=color, label=label if number == 0 else None)
            spread = [[max(0.0, value - rate["low"])], [max(0.0, rate["high"] - value)]]
            axes.errorbar(value, y, xerr=spread, color="black", linewidth=1, capsize=2)
    names = [f"{r['model']}\n{r['defense']} | {r['attack']}" for r in documents]
    axes.set_yticks(range(len(documents)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.02), xlabel="rate, with 95 % intervals", title=title)
    axes.grid(visible=True, axis="x", alpha=0.3)
    handles = [Patch(color=color, label=label) for label, _, color in bars]
    figure.legend(handles=handles, fontsize=7, loc="outside lower center", ncols=3)
    return figure_png(figure)


def draw_sweep(documents: Sequence[Json], parameter: str) -> bytes:
    """Draw robust accuracy against a parameter, a line for each model, defense and attack; a PNG.

    Rows without the parameter are left out.
    """
    figure = Figure(figsize=(7.5, 5), dpi=110)
    axes = figure.add_subplot()
    lines: dict[str, list[tuple[float, Json]]] = {}
    for found in documents:
        if parameter in found["parameters"]:
            name = found["attack"].split(" ")[0]
            key = f"{found['model']}, {found['defense']}, {name}"
            value = float(found["parameters"][parameter])
            lines.setdefault(key, []).append((value, found["robust_accuracy"]))
    for key, points in lines.items():
        points.sort(key=lambda point: point[0])
        x = [value for value, _ in points]
        (drawn,) = axes.plot(x, [rate["rate"] for _, rate in points], ".-", label=key)
        low, high = ([rate[of] for _, rate in points] for of in ("low", "high"))
        axes.fill_between(x, low, high, color=drawn.get_color(), alpha=0.15, linewidth=0)
    unit = ", in units of 1/255" if parameter == "eps" else ""
    axes.set(xlabel=f"{parameter}{unit}", ylabel="accuracy under attack", ylim=(-0.02, 1.02))
    axes.grid(visible=True, alpha=0.3)
    if lines:
        axes.legend(fontsize=7)
    return figure_png(figure)


def draw_rounds(rounds: Sequence[tuple[Rate, Rate]], *, title: str) -> bytes:
    """Draw clean and robust accuracy ``(clean, robust)`` by round, from round 0; a PNG."""
    figure = Figure(figsize=(6.5, 4.5), dpi=110)
    axes = figure.add_subplot()
    x = list(range(len(rounds)))
    for place, name in enumerate(("clean accuracy", "accuracy under attack")):
        rates = [pair[place] for pair in rounds]
        (drawn,) = axes.plot(x, [rate.value for rate in rates], "o-", label=name)
        low, high = [rate.low for rate in rates], [rate.high for rate in rates]
        axes.fill_between(x, low, high, color=drawn.get_color(), alpha=0.15, linewidth=0)
    axes.set(xlabel="round", ylabel="accuracy, held-out images", ylim=(-0.02, 1.02), title=title)
    axes.set_xticks(x)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return figure_png(figure)


def draw_detection(curves: Mapping[str, tuple[Scores, Scores, float | None]]) -> bytes:
    """Draw ROC curves of ``(clean scores, attacked scores, threshold)`` by name; a PNG.

    A dot marks the threshold; curves without attacked images are left out.
    """
    figure = Figure(figsize=(6.5, 5), dpi=110)
    axes = figure.add_subplot()
    for name, (clean, attacked, threshold) in curves.items():
        if not len(clean) or not len(attacked):
            continue
        positive = np.arange(len(clean) + len(attacked)) >= len(clean)
        false, true, _ = roc_curve(positive, np.concatenate([clean, attacked]))
        (drawn,) = axes.plot(false, true, label=name)
        if threshold is not None:
            at = float((clean > threshold).mean()), float((attacked > threshold).mean())
            axes.plot(*at, "o", color=drawn.get_color())
    axes.set(
        xlabel="clean images called suspicious",
        ylabel="fooling images called suspicious",
        title="feature squeezing; dots: calibrated thresholds",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
    )
    axes.grid(visible=True, alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=7)
    return figure_png(figure)


def _rate(rate: Rate) -> Json:
    value = None if math.isnan(rate.value) else rate.value
    return {
        "successes": rate.successes,
        "total": rate.total,
        "rate": value,
        "low": rate.low,
        "high": rate.high,
    }


def _draws(draws: Draws, row: Row) -> Json:
    return {
        "judged": draws.count,
        "attacked": draws.averaged,
        "clean_accuracy": draws.clean_accuracy,
        "adaptive_success": draws.success(row.clean),
        "robust_accuracy": draws.robust_accuracy,
    }


def _certified(certified: Certified) -> Json:
    smoothing = certified.smoothing
    radii = [share * smoothing.sigma for share in RADII]
    return {
        "sigma": smoothing.sigma,
        "alpha": smoothing.alpha,
        "samples": smoothing.samples,
        "abstained": _rate(certified.abstained),
        "accuracy": [
            {"radius": radius, "accuracy": _rate(certified.accuracy(radius))} for radius in radii
        ],
    }


def _paired(comparison: Comparison) -> Json:
    return {
        side: None if found is None else vars(found)
        for side, found in (
            ("transferred", comparison.transferred),
            ("adaptive", comparison.adaptive),
        )
    }
