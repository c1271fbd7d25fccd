"""Pictures of a ``generate-mask`` job: the designs, people who wear them, the training."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from services.worker.encoding import figure_png, png
from services.worker.masks.designs import Designs
from services.worker.masks.outlines import Shape
from services.worker.masks.training import MaskEpoch
from services.worker.masks.wearers import Wearers

FACES_SHOWN = 6
DESIGNS_SHOWN = 4
COLUMNS = 6


def sheet(designs: Tensor) -> bytes:
    """Draw all designs ``(N, 3, h, w)`` side by side; a PNG."""
    columns = min(COLUMNS, len(designs))
    rows = -(-len(designs) // columns)
    height, width = designs.shape[2:]
    canvas = np.full((rows * (height + 8) + 8, columns * (width + 8) + 8, 3), 255, dtype=np.uint8)
    for number, design in enumerate(_pixels(designs)):
        y, x = 8 + number // columns * (height + 8), 8 + number % columns * (width + 8)
        canvas[y : y + height, x : x + width] = design
    return png(canvas)


def worn(designs: Designs, wearers: Wearers, shape: Shape) -> bytes:
    """Draw a few people bare in the first row, and in each further row with one design; a PNG.

    Where designs replace masks that people wear, the first row shows them as they are.
    """
    seen: dict[int, int] = {}
    for index in np.flatnonzero(wearers.wearable).tolist():
        seen.setdefault(int(wearers.people[index]), index)
    chosen = list(seen.values())[:FACES_SHOWN]
    faces, people = wearers.faces(chosen), wearers.people[chosen]
    rows = [faces]
    with torch.no_grad():
        for number in range(min(DESIGNS_SHOWN, len(designs.shown))):
            dealt = designs.of(torch.full((len(chosen),), number), people)
            rows.append(wearers.wear(faces, chosen, dealt, shape=shape))
    return png(np.concatenate([np.concatenate(list(_pixels(row)), 1) for row in rows], 0))


def curves(history: Sequence[MaskEpoch]) -> bytes:
    """Draw similarity and the other terms by epoch; a PNG."""
    figure = Figure(figsize=(10, 4), dpi=120)
    left, right = figure.subplots(1, 2)
    numbers = [epoch.number for epoch in history]
    left.plot(numbers, [epoch.similarity for epoch in history], ".-", label="similarity")
    losses = [(e.number, e.discriminator_loss) for e in history if e.discriminator_loss]
    if losses:
        left.plot(*zip(*losses, strict=True), ".-", label="discriminator's loss")
    left.set(xlabel="epoch", title="wearers, to their own gallery photo")
    for name in ("variation", "printability", "likeness"):
        right.plot(numbers, [getattr(epoch, name) for epoch in history], ".-", label=name)
    right.set(xlabel="epoch", title="terms on the designs")
    for axes in (left, right):
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    return figure_png(figure)


def _pixels(images: Tensor) -> NDArray[np.uint8]:
    array = images.detach().cpu().clamp(0, 1).permute(0, 2, 3, 1).numpy()
    return np.asarray(np.rint(255 * array), dtype=np.uint8)
