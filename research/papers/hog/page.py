"""Writes ``docs/results/hog.md``: what patterns do to dlib's HOG detector, beside paper 002."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from scipy import stats

from research.papers.markdown import table
from services.worker.evaluation.metrics import Rate
from services.worker.masks.hog.baseline import PUBLISHED_FACES, PUBLISHED_TILING, Tiling
from services.worker.masks.hog.detector import Picture


@dataclass(frozen=True)
class Run:
    """One annealing: its best pattern, and what was found in the first and in the best."""

    pattern: Picture
    seed: int
    start: int
    found: int
    evaluations: int
    seconds: float


@dataclass(frozen=True)
class Decoy:
    """A kind of pattern, annealed from several seeds."""

    name: str
    runs: Sequence[Run]


@dataclass(frozen=True)
class Seen:
    """How many views of the wearers have no face found, by size in pixels; mean best score."""

    hidden: Mapping[int, Rate]
    score: float


@dataclass(frozen=True)
class Personal:
    """People with a pattern of their own each."""

    people: int
    rows: Mapping[str, Seen]


def page(
    tilings: Sequence[Tiling],
    decoys: Sequence[Decoy],
    universal: Mapping[str, Seen],
    runs: Sequence[Run],
    personal: Personal,
    *,
    annealed_on: int,
    judged: int,
    steps: tuple[int, int],
    command: str,
) -> str:
    """Return the page as Markdown."""
    spent = [run for decoy in decoys for run in decoy.runs] + list(runs)
    return "\n".join(
        [
            "# Patterns against HOG face detectors, beside paper 002\n",
            "**Digital, not physically tested.** Written by "
            f"`{command}`; nothing was filled in by hand. dlib-bin {version('dlib-bin')}, its "
            "frontal face detector, nothing enlarged before the search. The figures say nothing of "
            "other face finders.\n",
            "## `decoys`: false faces in a canvas of 766 pixels\n",
            f"{steps[0]} steps of four proposals each. Brackets: 95 % interval of the mean over "
            "seeds (Student's t).\n",
            _decoys(tilings, decoys),
            _verdict(tilings, decoys),
            "## `hide`: the wearer's own face is not found\n",
            "Share of views in which dlib finds no face where the wearer's is, of those in which "
            "it finds the bare face; a view is a photo with its face at one size. Brackets: 95 % "
            "Wilson intervals. *Score*: mean best score on the face; above 0 it is found.\n",
            f"### One pattern for everybody\n\nAnnealed for {steps[1]} steps on {annealed_on} "
            f"people of `faces/train` at all sizes together; worn by {judged} people of "
            "`faces/test`.\n",
            _hidden(universal),
            _fits(runs),
            _controls(universal),
            f"### A pattern of one's own\n\n{personal.people} people of `faces/test`: each pattern "
            f"annealed for {steps[1]} steps on one photo, judged on it and on another photo of "
            "the same person.\n",
            _hidden(personal.rows) if personal.people else "Nobody was found on both photos.\n",
            f"{sum(run.evaluations for run in spent)} patterns were rated for the first two "
            f"tables, in {sum(run.seconds for run in spent):.0f} s.\n",
        ]
    )


def _decoys(tilings: Sequence[Tiling], decoys: Sequence[Decoy]) -> str:
    rows = [
        ("paper 002: six sprites, annealed", "", f"{PUBLISHED_FACES}"),
        ("paper 002: one face tiled, no search", "", f"{PUBLISHED_TILING}"),
    ]
    for tiling in tilings:
        square = tiling.side == tiling.across
        size = f"{tiling.side} px" if square else f"{tiling.side} x {tiling.across} px, stretched"
        name = f"the face drawn here, tiled at {size}, no search"
        rows.append((name, "", f"{len(tiling.detections)}"))
    for decoy in decoys:
        starts = ", ".join(str(run.start) for run in decoy.runs)
        counts = ", ".join(str(run.found) for run in decoy.runs)
        mean = mean_of([run.found for run in decoy.runs])
        seeds = ", ".join(str(run.seed) for run in decoy.runs)
        rows.append((decoy.name, starts, f"{counts} (seeds {seeds}); mean {mean}"))
    return table(("pattern", "faces at the start", "faces"), rows)


def _verdict(tilings: Sequence[Tiling], decoys: Sequence[Decoy]) -> str:
    best = max(decoys, key=lambda decoy: max(run.found for run in decoy.runs))
    count = max(run.found for run in best.runs)
    plain = max(len(tiling.detections) for tiling in tilings)
    beaten = "**beats**" if count > plain else "**does not beat**"
    return (
        f"The best pattern ({best.name}) shows {count} faces and {beaten} the {plain} that tiling "
        f"one drawn face gives without any search; paper 002's tiling, {PUBLISHED_TILING}, is "
        f"{'beaten' if count > PUBLISHED_TILING else 'not beaten'}.\n"
    )


def _hidden(rows: Mapping[str, Seen]) -> str:
    sizes = sorted({size for row in rows.values() for size in row.hidden})
    lines = [
        (
            name,
            *(_rate(row.hidden[size]) if size in row.hidden else "" for size in sizes),
            f"{row.score:.2f}",
        )
        for name, row in rows.items()
    ]
    return table(("wearing", *(f"face of {size} px" for size in sizes), "score"), lines)


def _controls(rows: Mapping[str, Seen]) -> str:
    hidden = {
        name: sum(rate.successes for rate in row.hidden.values()) for name, row in rows.items()
    }
    best = max(count for name, count in hidden.items() if name.startswith("pattern"))
    equal = [name for name, count in hidden.items() if name.startswith("plain") and count >= best]
    if not equal:
        return "No plain mask hides as many views as the best pattern does.\n"
    return (
        f"**Hiding takes no pattern:** {', '.join(equal)} hides as many views as the best pattern "
        "does: what the detector looks for in the lower face is covered, whatever is printed.\n"
    )


def _fits(runs: Sequence[Run]) -> str:
    told = ", ".join(f"{run.start} to {run.found} (seed {run.seed})" for run in runs)
    return f"On the people it was annealed on, views in which a face is found went from {told}.\n"


def _rate(rate: Rate) -> str:
    low, high = 100 * rate.low, 100 * rate.high
    return f"{rate.value:.1%} [{low:.1f}, {high:.1f}] ({rate.successes}/{rate.total})"


def mean_of(counts: Sequence[int]) -> str:
    """Write the mean of several seeds with its 95 % interval (Student's t)."""
    mean = float(np.mean(counts))
    if len(counts) < 2:
        return f"{mean:.1f}"
    reach = float(stats.t.ppf(0.975, len(counts) - 1) * np.std(counts, ddof=1))
    reach /= math.sqrt(len(counts))
    return f"{mean:.1f} [{max(0.0, mean - reach):.1f}, {mean + reach:.1f}]"
