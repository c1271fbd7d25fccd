"""What the face network should say of an example: heat, boxes and points at every cell."""

import numpy as np
from numpy.typing import NDArray

from services.worker.faces.network import LARGEST, POINTS, SMALLEST, STRIDE

Maps = NDArray[np.float32]
NEAR = 0.6  # cells where the heat is at least this high learn the box, too


def targets(boxes: Maps, points: Maps, ignored: Maps, side: int) -> tuple[Maps, Maps, Maps, Maps]:
    """Return the heat to learn, which cells count, and box and points to learn (NaN: none).

    With ``n`` cells a side: ``(n, n)``, ``(n, n)``, ``(4, n, n)``, ``(10, n, n)``. Heat is a
    Gaussian around each face's center (Zhou et al. 2019). Cells on ignored places and on faces too
    small for one pass do not count; nor does the middle of a face that is too large for one, whose
    other cells learn that a part of a face is none.
    """
    cells = side // STRIDE
    middle = (np.arange(cells, dtype=np.float32) + 0.5) * STRIDE
    rows, columns = middle[:, None], middle[None, :]
    heat = np.zeros((cells, cells), dtype=np.float32)
    counts = np.ones((cells, cells), dtype=np.float32)
    learned = np.full((4, cells, cells), np.nan, dtype=np.float32)
    marks = np.full((2 * POINTS, cells, cells), np.nan, dtype=np.float32)
    for x0, y0, x1, y1 in ignored:
        counts[(rows > y0) & (rows < y1) & (columns > x0) & (columns < x1)] = 0
    sizes = boxes[:, 2:] - boxes[:, :2]
    for i in np.argsort(-sizes.prod(1)):
        (x0, y0, x1, y1), (width, height) = boxes[i], sizes[i]
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        if max(width, height) > 1.5 * LARGEST:
            away = ((columns - x) / width) ** 2 + ((rows - y) / height) ** 2
            counts[away < 0.2**2] = 0
            continue
        if max(width, height) < 0.75 * SMALLEST or min(width, height) < 4:
            counts[(rows > y0) & (rows < y1) & (columns > x0) & (columns < x1)] = 0
            continue
        if not (0 <= x < side and 0 <= y < side):
            inside = (rows > y0) & (rows < y1) & (columns > x0) & (columns < x1)
            counts[inside] = 0
            continue
        spread = (max(width / 6, 1.5), max(height / 6, 1.5))
        bell = np.exp(-(((columns - x) / spread[0]) ** 2 + ((rows - y) / spread[1]) ** 2) / 2)
        nearest = (min(cells - 1, int(y / STRIDE)), min(cells - 1, int(x / STRIDE)))
        bell[nearest] = 1
        near = bell > NEAR
        learned[:, near] = boxes[i][:, None]
        marks[:, near] = points[i].reshape(-1, 1)
        counts[near] = 1
        heat = np.maximum(heat, bell)
    return heat, counts, learned, marks
