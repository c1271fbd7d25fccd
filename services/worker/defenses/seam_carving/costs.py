"""Cumulative cost of seams and the way back up: the dynamic program.

Costs are kept in 16 bits and stop at ``WALL`` (saturation). Saturated costs are exactly
``min(true cost, WALL)``, hence a seam whose cost stays below ``WALL`` is the true one, ties
included. When the cheapest seam reaches ``WALL`` the program is run again in 32 bits.
"""

import numpy as np

from services.worker.defenses.jit import kernel
from services.worker.defenses.seam_carving.energies import Bytes, Energies, Integer, Integers
from services.worker.defenses.seam_carving.layout import FORWARD, MARGIN, WALL, index

FAR = 1 << 30  # more than any seam costs: 8192 rows of at most 66,000


@kernel
def _saturate(cost: Integer, step: Integer) -> np.uint16:
    total = np.uint16(cost + step)
    return total if total >= cost else np.uint16(WALL)


@kernel
def _sum_narrow(above: Energies, energy: Energies, out: Energies) -> None:
    """Add a row; ``above`` begins one cell to the left of the others."""
    for j in range(index(out.size)):
        best = above[j]
        middle = above[j + index(1)]
        right = above[j + index(2)]
        best = middle if middle < best else best
        best = right if right < best else best
        out[j] = _saturate(best, energy[j])


@kernel
def add_row(above: Integers, energy: Energies, out: Integers) -> None:
    """Add a row in 32 bits; ``above`` begins one cell to the left of the others."""
    for j in range(index(out.size)):
        best = above[j]
        middle = above[j + index(1)]
        right = above[j + index(2)]
        best = middle if middle < best else best
        best = right if right < best else best
        out[j] = np.int32(best + np.int32(energy[j]))


@kernel
def _difference(a: Integer, b: Integer) -> np.uint16:
    # In 16 bits from the start, and without a subtraction that wraps: this form is vectorized.
    first, second = np.uint16(a), np.uint16(b)
    larger = first if first > second else second
    smaller = second if first > second else first
    return np.uint16(larger - smaller)


@kernel
def _sum_forward_narrow(
    above: Energies, weights: Energies, gray: Bytes, gray_above: Bytes, out: Energies
) -> None:
    """Add a row of forward energy; ``above`` and ``gray`` begin one cell to the left."""
    for j in range(index(out.size)):
        left, right = gray[j], gray[j + index(2)]
        best = _saturate(above[j], _difference(gray_above[j], left))
        middle = above[j + index(1)]
        other = _saturate(above[j + index(2)], _difference(gray_above[j], right))
        best = middle if middle < best else best
        best = other if other < best else best
        out[j] = _saturate(_saturate(best, _difference(left, right)), weights[j])


@kernel
def _sum_forward_wide(
    above: Integers, weights: Energies, gray: Bytes, gray_above: Bytes, out: Integers
) -> None:
    for j in range(index(out.size)):
        left, right = np.int32(gray[j]), np.int32(gray[j + index(2)])
        top = np.int32(gray_above[j])
        best = np.int32(above[j] + abs(np.int32(top - left)))
        middle = above[j + index(1)]
        other = np.int32(above[j + index(2)] + abs(np.int32(top - right)))
        best = middle if middle < best else best
        best = other if other < best else best
        out[j] = np.int32(best + abs(np.int32(left - right)) + np.int32(weights[j]))


@kernel
def accumulate_narrow(
    gray: Bytes, energy: Energies, costs: Energies, mode: int, height: int, width: int, stride: int
) -> None:
    """Fill ``costs`` with the least cost of a seam from the top to each cell, up to ``WALL``."""
    size = (width + MARGIN - 1) // MARGIN * MARGIN
    for row in range(height):
        here = row * stride + MARGIN
        out = costs[here : here + size]
        costs[here + size] = WALL
        if row == 0:
            for j in range(size):
                out[j] = energy[here + j]
                if mode == FORWARD:
                    out[j] = _saturate(out[j], _difference(gray[here + j - 1], gray[here + j + 1]))
            continue
        above = costs[here - stride - 1 : here - stride + size + 1]
        if mode == FORWARD:
            _sum_forward_narrow(
                above,
                energy[here : here + size],
                gray[here - 1 : here + size + 1],
                gray[here - stride : here - stride + size],
                out,
            )
        else:
            _sum_narrow(above, energy[here : here + size], out)


@kernel
def accumulate_wide(
    gray: Bytes,
    energy: Energies,
    costs: Integers,
    mode: int,
    height: int,
    width: int,
    stride: int,
    first: int = 0,
) -> None:
    """Fill ``costs`` as ``accumulate_narrow`` does, in 32 bits and without an upper end.

    The rows above ``first`` stay as they are.
    """
    size = (width + MARGIN - 1) // MARGIN * MARGIN
    for row in range(first, height):
        here = row * stride + MARGIN
        out = costs[here : here + size]
        costs[here + size] = FAR
        if row == 0:
            for j in range(size):
                out[j] = energy[here + j]
                if mode == FORWARD:
                    out[j] += _difference(gray[here + j - 1], gray[here + j + 1])
            continue
        above = costs[here - stride - 1 : here - stride + size + 1]
        if mode == FORWARD:
            _sum_forward_wide(
                above,
                energy[here : here + size],
                gray[here - 1 : here + size + 1],
                gray[here - stride : here - stride + size],
                out,
            )
        else:
            add_row(above, energy[here : here + size], out)


@kernel
def trace(
    gray: Bytes,
    costs: np.ndarray[tuple[int], np.dtype[np.integer]],
    seam: Integers,
    mode: int,
    height: int,
    width: int,
    stride: int,
) -> int:
    """Write the cheapest seam's column of each row and return its cost.

    Ties: the leftmost end in the last row, then the leftmost of the three cells above.
    """
    start = (height - 1) * stride + MARGIN
    least = costs[start]
    for column in range(1, width):
        least = min(least, costs[start + column])
    column = 0
    while costs[start + column] != least:
        column += 1
    seam[height - 1] = column
    for row in range(height - 2, -1, -1):
        above = row * stride + MARGIN + column
        left, middle, right = (
            np.int64(costs[above - 1]),
            np.int64(costs[above]),
            np.int64(costs[above + 1]),
        )
        if mode == FORWARD:
            pixel = np.int64(gray[above])
            left += abs(pixel - np.int64(gray[above + stride - 1]))
            right += abs(pixel - np.int64(gray[above + stride + 1]))
        if right < middle and right < left:
            column += 1
        elif left <= middle:
            column -= 1
        seam[row] = column
    return int(least)
