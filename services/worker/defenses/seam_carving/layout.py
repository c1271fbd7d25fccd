"""How the kernels lay an image out: flat rows with a margin on either side.

A row is ``MARGIN`` cells, then the pixels, then cells up to a multiple of ``MARGIN``, then
``MARGIN`` cells. The margins let the inner loops run over whole vectors without a test for the
border: gray values are repeated one cell outside the image, energies outside are ``WALL``.
"""

import numpy as np

from services.worker.defenses.jit import kernel

MARGIN = 32
WALL = 65_535
HIGHEST_WEIGHT = 32_767
GRADIENT, ENTROPY, FORWARD = 0, 1, 2

index = np.uintp  # unsigned: numba then emits no test for a negative index


@kernel
def row_stride(width: int) -> int:
    """Return the cells from one row to the next."""
    return (width + MARGIN - 1) // MARGIN * MARGIN + 2 * MARGIN


@kernel
def lay_out(
    image: np.ndarray[tuple[int, int], np.dtype[np.uint8]],
    cells: np.ndarray[tuple[int], np.dtype[np.uint8]],
    stride: int,
) -> None:
    """Copy gray pixels ``(H, W)`` into ``cells``, the outermost ones repeated once."""
    height, width = image.shape
    for row in range(height):
        start = row * stride + MARGIN
        cells[start : start + width] = image[row]
        cells[start - 1] = image[row, 0]
        cells[start + width] = image[row, width - 1]


@kernel
def shift(
    cells: np.ndarray[tuple[int], np.dtype[np.generic]],
    seam: np.ndarray[tuple[int], np.dtype[np.int32]],
    height: int,
    width: int,
    stride: int,
) -> None:
    """Take the seam's cell out of each row; the cells to its right, margin included, move up."""
    for row in range(height):
        start = row * stride + MARGIN + seam[row]
        rest = cells[start : row * stride + MARGIN + width + 1]
        for column in range(index(1), index(rest.size)):
            rest[column - index(1)] = rest[column]


@kernel
def repeat_border(
    cells: np.ndarray[tuple[int], np.dtype[np.uint8]], height: int, width: int, stride: int
) -> None:
    """Repeat the outermost gray values one cell outside a ``width`` that has changed."""
    for row in range(height):
        start = row * stride + MARGIN
        cells[start - 1] = cells[start]
        cells[start + width] = cells[start + width - 1]
