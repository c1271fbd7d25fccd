"""Pictures and pages of a pattern against HOG face detectors."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from services.worker.encoding import figure_png
from services.worker.jobs.kit.pictures import PANEL, Mark, Panel, draw_marks, draw_rows
from services.worker.masks.hog.detector import Detections, Picture
from services.worker.masks.hog.objectives import Hide, Rating
from services.worker.masks.hog.placing import LowerFace, cut_line
from services.worker.masks.printing import picture_page, picture_png
from shared.results.generate_mask import HogStep

SQUARE = 180.0  # side of a printed pattern that is not worn, in millimetres: A4 has 210
FACE = 150.0  # width of an adult's face as dlib boxes it, in millimetres
WEARERS_SHOWN = 4
COLORS = {True: 1, False: 0}  # of a mark: found, hidden


def printed_size(*, worn: bool) -> tuple[float, float]:
    """Return width and height of a printed pattern in millimetres."""
    return LowerFace().size(FACE, FACE) if worn else (SQUARE, SQUARE)


def page(pattern: Picture, *, worn: bool) -> bytes:
    """Return a page of A4 with the pattern at true size; a mask has a mask's cut line."""
    width, height = printed_size(worn=worn)
    square = np.array([(0, 0), (width, 0), (width, height), (0, height), (0, 0)], dtype=np.float64)
    line = cut_line(width, height) if worn else square
    name = "mask" if worn else "square"
    return picture_page(pattern, (width, height), line, title="Bauta, HOG pattern", name=name)


def print_png(pattern: Picture, *, worn: bool) -> bytes:
    """Return the pattern as a PNG of 300 pixels an inch at true size."""
    return picture_png(pattern, printed_size(worn=worn))


def detections(pattern: Picture, found: Detections) -> bytes:
    """Draw the faces that dlib finds in a pattern, with their scores; a JPEG."""
    pairs = zip(found.boxes.tolist(), found.scores.tolist(), strict=True)
    marks = [
        Mark((x0, y0, x1, y1), f"{score:.1f}", COLORS[True]) for (x0, y0, x1, y1), score in pairs
    ]
    return draw_marks(pattern, marks)


def worn(hide: Hide, pattern: Picture, bare: Rating, ours: Rating) -> bytes:
    """Draw a few wearers, bare above and with the pattern below; a PNG."""
    rows: list[list[Panel]] = [[], []]
    first = 0
    for wearer in hide.wearers[:WEARERS_SHOWN]:
        views = slice(first, first + len(wearer.sizes))
        first += len(wearer.sizes)
        masked = hide.place(wearer.picture, wearer.box, pattern)
        for row, picture, rating in ((0, wearer.picture, bare), (1, masked, ours)):
            scores = rating.scores[views]
            seen = sum(score > 0 for score in scores)
            title = f"photo {wearer.photo + 1}, {'pattern' if row else 'bare'}"
            caption = f"found in {seen} of {len(scores)} sizes, {max(scores):.1f}"
            rows[row].append(Panel(_panel(picture), title, caption))
    return draw_rows(rows)


def curves(history: Sequence[HogStep]) -> bytes:
    """Draw the fitness and what was found, by step; a PNG."""
    figure = Figure(figsize=(10, 4), dpi=120)
    left, right = figure.subplots(1, 2)
    steps = [step.step for step in history]
    left.plot(steps, [step.fitness for step in history], linewidth=0.8, label="current")
    left.plot(steps, [step.best_fitness for step in history], label="best")
    left.set(xlabel="step", title="fitness")
    left.legend()
    right.plot(steps, [step.found for step in history])
    right.set(xlabel="step", title="faces that dlib finds, of the best")
    for axes in (left, right):
        axes.grid(visible=True, alpha=0.3)
    return figure_png(figure)


def _panel(picture: Picture) -> Picture:
    """Fit a picture into a square of white."""
    small = Image.fromarray(picture)
    small.thumbnail((PANEL, PANEL), Image.Resampling.BICUBIC)
    panel = Image.new("RGB", (PANEL, PANEL), "white")
    panel.paste(small, ((PANEL - small.width) // 2, (PANEL - small.height) // 2))
    return np.array(panel)
