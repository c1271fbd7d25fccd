"""A grid of cells of free colors, whole or as one tile that repeats."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.worker.masks.hog.detector import Picture
from services.worker.masks.hog.drawing import draw_face
from services.worker.masks.hog.pattern import State, check_canvas

Start = Literal["noise", "gray", "face"]
STARTS: tuple[Start, ...] = ("noise", "gray", "face")
SMALLEST = 16  # pixels
SWAP = 0.15  # share of the moves that give a rectangle the colors of another one


@dataclass(frozen=True, kw_only=True)
class ColorGrid:
    """Cells of ``cell`` pixels, each of one color; the last ones are cut at the picture's edge.

    A state is uint8 ``(rows, columns, 3)``. With ``tile`` (rows, columns) the state is that many
    cells, repeated over the picture; without, it covers the picture once. ``mirror`` keeps it
    symmetric about its middle column. It starts as noise, as gray, or as the drawn face. Raises
    ``ValueError`` for sizes out of range.
    """

    height: int = 766
    width: int = 766
    cell: int = 8
    tile: tuple[int, int] | None = None
    mirror: bool = False
    begin: Start = "noise"

    def __post_init__(self) -> None:
        check_canvas(self.height, self.width, SMALLEST)
        if not 1 <= self.cell <= min(self.height, self.width) // 2:
            raise ValueError(f"cells of {self.cell} pixels in {self.height} x {self.width}")
        rows, columns = -(-self.height // self.cell), -(-self.width // self.cell)
        if self.tile and not (2 <= self.tile[0] <= rows and 2 <= self.tile[1] <= columns):
            raise ValueError(f"a tile has 2 to {rows} x {columns} cells, not {self.tile}")
        if self.begin not in STARTS:
            raise ValueError(f"a grid begins as one of {STARTS}, not {self.begin!r}")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the state."""
        return self.tile or (-(-self.height // self.cell), -(-self.width // self.cell))

    def start(self, rng: np.random.Generator) -> State:
        """Return noise, gray or the drawn face, uint8 ``(rows, columns, 3)``."""
        rows, columns = self.shape
        if self.begin == "noise":
            return self._symmetric(rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8))
        if self.begin == "gray":
            return np.full((rows, columns, 3), 128, dtype=np.uint8)
        face = Image.fromarray(draw_face(8 * max(rows, columns)))
        sized = np.asarray(face.resize((columns, rows), Image.Resampling.BOX))
        return self._symmetric(np.repeat(sized[..., None], 3, axis=2))

    def propose(self, state: State, rng: np.random.Generator, heat: float) -> State:
        """Give a rectangle of cells a color, or a shift of its colors, or the colors of another.

        The rectangle wraps around the edges and shrinks with ``heat`` to one cell.
        """
        rows, columns = self.shape
        moved = np.array(state, dtype=np.uint8)
        height = 1 + int(rng.integers(0, max(1, round(heat * rows / 2))))
        width = 1 + int(rng.integers(0, max(1, round(heat * columns / 2))))
        area = self._area(rng, height, width)
        kind = rng.random()
        if kind < SWAP:
            moved[area] = moved[self._area(rng, height, width)]
        elif kind < 0.5:
            # Black, white and pure colors make the strongest edges.
            moved[area] = 255 * rng.integers(0, 2, 3) if rng.random() < 0.5 else _gray(rng)
        else:
            reach = 16 + 96 * heat
            shift = rng.normal(0, reach) if rng.random() < 0.5 else rng.normal(0, reach, 3)
            moved[area] = np.clip(np.rint(moved[area] + shift), 0, 255).astype(np.uint8)
        return self._symmetric(moved)

    def render(self, state: State) -> Picture:
        """Draw the cells, uint8 ``(height, width, 3)``."""
        cells = np.asarray(state, dtype=np.uint8)
        pixels = cells.repeat(self.cell, axis=0).repeat(self.cell, axis=1)
        down, across = -(-self.height // len(pixels)), -(-self.width // pixels.shape[1])
        return np.tile(pixels, (down, across, 1))[: self.height, : self.width]

    def _area(
        self, rng: np.random.Generator, height: int, width: int
    ) -> tuple[NDArray[np.intp], ...]:
        rows, columns = self.shape
        down = (int(rng.integers(rows)) + np.arange(height)) % rows
        across = (int(rng.integers(columns)) + np.arange(width)) % columns
        return np.ix_(down, across)

    def _symmetric(self, cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Copy the left half to the right, if the grid is to be symmetric."""
        if not self.mirror:
            return cells
        half = cells.shape[1] // 2
        return np.concatenate([cells[:, : cells.shape[1] - half], cells[:, :half][:, ::-1]], axis=1)


def _gray(rng: np.random.Generator) -> int:
    return int(rng.integers(0, 256))
