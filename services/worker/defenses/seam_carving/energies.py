"""Energies of a gray image, computed whole and renewed around a removed seam.

Every energy is an integer that fits 16 bits, so that sums are exact, the order of summation is
irrelevant, and a renewed energy equals a recomputed one bit for bit.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.worker.defenses.jit import kernel
from services.worker.defenses.seam_carving.layout import (
    ENTROPY,
    FORWARD,
    GRADIENT,
    MARGIN,
    index,
)

Bytes: TypeAlias = NDArray[np.uint8]
Energies: TypeAlias = NDArray[np.uint16]
Integers: TypeAlias = NDArray[np.int32]
Counts: TypeAlias = NDArray[np.int64]
Integer: TypeAlias = int | np.integer[Any]

ENTROPY_REACH = 4  # a window of 9x9, as in the weight map of Park et al. (2022)
ENTROPY_UNIT = 4096  # energies per bit of entropy
_FRACTION = 1 << 20
_LARGEST_WINDOW = (2 * ENTROPY_REACH + 1) ** 2

_counts = np.arange(_LARGEST_WINDOW + 1, dtype=np.float64)
_logarithms = np.log2(np.maximum(_counts, 1))
# Entropy of a window with counts n_i summing to n: log2(n) - sum(n_i log2 n_i) / n.
_terms: Counts = np.rint(_counts * _logarithms * _FRACTION).astype(np.int64)
COUNT_GAINS: Counts = _terms[1:] - _terms[:-1]  # by one more cell of a value that occurs n_i times
WINDOW_TERMS: Counts = np.rint(_logarithms * _FRACTION).astype(np.int64)


@kernel
def _gradient_row(above: Bytes, here: Bytes, below: Bytes, out: Energies) -> None:
    """Write |Sobel x| + |Sobel y| of a row; the inputs begin one cell to the left of ``out``."""
    for j in range(index(out.size)):
        left, middle, right = j, j + index(1), j + index(2)
        x = np.int32(above[right]) + np.int32(2) * np.int32(here[right]) + np.int32(below[right])
        x -= np.int32(above[left]) + np.int32(2) * np.int32(here[left]) + np.int32(below[left])
        y = np.int32(below[left]) + np.int32(2) * np.int32(below[middle]) + np.int32(below[right])
        y -= np.int32(above[left]) + np.int32(2) * np.int32(above[middle]) + np.int32(above[right])
        out[j] = np.uint16(abs(x) + abs(y))


@kernel
def _gradient(
    gray: Bytes, energy: Energies, row: int, first: int, last: int, height: int, stride: int
) -> None:
    """Write the gradient energy of the columns ``first..last`` of a row."""
    left = MARGIN + first - 1
    right = MARGIN + last + 2
    above = max(row - 1, 0) * stride
    here = row * stride
    below = min(row + 1, height - 1) * stride
    _gradient_row(
        gray[above + left : above + right],
        gray[here + left : here + right],
        gray[below + left : below + right],
        energy[here + left + 1 : here + right - 1],
    )


@kernel
def _gradient_near(
    gray: Bytes, energy: Energies, row: int, first: int, last: int, height: int, stride: int
) -> None:
    """Write what ``_gradient`` writes, faster for the two to four columns around a seam."""
    one = index(1)
    above = index(max(row - 1, 0) * stride + MARGIN + first)
    here = index(row * stride + MARGIN + first)
    below = index(min(row + 1, height - 1) * stride + MARGIN + first)
    low_sum, low_step = _column(gray, above - one, here - one, below - one)
    middle_sum, middle_step = _column(gray, above, here, below)
    for _ in range(first, last + 1):
        above, below = above + one, below + one
        high_sum, high_step = _column(gray, above, here + one, below)
        x, y = abs(high_sum - low_sum), abs(low_step + 2 * middle_step + high_step)
        energy[here] = np.uint16(x + y)
        low_sum, low_step = middle_sum, middle_step
        middle_sum, middle_step = high_sum, high_step
        here += one


@kernel
def _column(
    gray: Bytes, above: Integer, here: Integer, below: Integer
) -> tuple[np.int64, np.int64]:
    """Return a column's smoothed sum and its difference from top to bottom."""
    top, bottom = np.int64(gray[above]), np.int64(gray[below])
    return top + 2 * np.int64(gray[here]) + bottom, bottom - top


@kernel
def _entropy(
    gray: Bytes,
    energy: Energies,
    row: int,
    first: int,
    last: int,
    height: int,
    width: int,
    stride: int,
    histogram: Bytes,
    count_gains: Counts,
    window_terms: Counts,
    sums: Integers,
) -> None:
    """Write the entropy energy of the columns ``first..last`` of a row, by a sliding histogram.

    ``sums``, unless empty, receives the windows' sums of n_i log2 n_i.
    """
    one, below = index(1), index(stride)
    top = max(row - ENTROPY_REACH, 0)
    lines = min(row + ENTROPY_REACH, height - 1) - top + 1
    corner = index(top * stride + MARGIN)
    leftmost = max(first - ENTROPY_REACH, 0)
    histogram[:] = 0
    total = 0
    terms = 0
    for column in range(first - ENTROPY_REACH, last + ENTROPY_REACH + 1):
        if 0 <= column < width:
            cell = corner + index(column)
            for _ in range(lines):
                value = index(gray[cell])
                count = index(histogram[value])
                terms += count_gains[count]
                histogram[value] = np.uint8(count + one)
                cell += below
            total += lines
        leaving = column - 2 * ENTROPY_REACH - 1
        if leaving >= leftmost:
            cell = corner + index(leaving)
            for _ in range(lines):
                value = index(gray[cell])
                count = index(histogram[value]) - one
                terms -= count_gains[count]
                histogram[value] = np.uint8(count)
                cell += below
            total -= lines
        center = column - ENTROPY_REACH
        if center >= first:
            energy[row * stride + MARGIN + center] = _energy_of(terms, total, window_terms)
            if sums.size:
                sums[row * stride + MARGIN + center] = terms


@kernel
def _energy_of(terms: Integer, total: Integer, window_terms: Counts) -> np.uint16:
    """Return a window's entropy, of its sum of n_i log2 n_i and its number of cells."""
    mean = np.uint32(terms) // np.uint32(total)
    bits = window_terms[index(total)] - np.int64(mean)
    return np.uint16(bits * ENTROPY_UNIT // _FRACTION)


@kernel
def _add_weights(
    energy: Energies, weights: Energies, row: int, first: int, last: int, stride: int
) -> None:
    start = row * stride + MARGIN
    for cell in range(start + first, start + last + 1):
        energy[cell] = np.uint16(energy[cell] + weights[cell])


@kernel
def fill(
    gray: Bytes,
    energy: Energies,
    weights: Energies,
    mode: int,
    height: int,
    width: int,
    stride: int,
    count_gains: Counts,
    window_terms: Counts,
    sums: Integers,
) -> None:
    """Write the energies of a whole image; ``weights``, unless empty, are added.

    ``sums``, unless empty, receives of an entropy what ``change_cell`` needs.
    Forward energy is read off the gray values themselves: its cells hold the weights alone.
    """
    last = width - 1
    histogram = np.empty(256, dtype=np.uint8)
    for row in range(height):
        if mode == GRADIENT:
            _gradient(gray, energy, row, 0, last, height, stride)
        elif mode == ENTROPY:
            _entropy(
                gray,
                energy,
                row,
                0,
                last,
                height,
                width,
                stride,
                histogram,
                count_gains,
                window_terms,
                sums,
            )
        else:
            energy[row * stride + MARGIN : row * stride + MARGIN + width] = 0
        if weights.size:
            _add_weights(energy, weights, row, 0, last, stride)


@kernel
def renew(
    gray: Bytes,
    energy: Energies,
    weights: Energies,
    seam: Integers,
    mode: int,
    height: int,
    width: int,
    stride: int,
    count_gains: Counts,
    window_terms: Counts,
    sums: Integers,
) -> None:
    """Bring the energies up to date after ``seam`` was taken out of a ``width`` one larger.

    A removed cell at column s changes the neighborhoods of the new columns s - reach to
    s + reach - 1 in the rows within ``reach``: only those are computed anew.
    """
    if mode == FORWARD:
        return
    reach = ENTROPY_REACH if mode == ENTROPY else 1
    histogram = np.empty(256, dtype=np.uint8)
    for row in range(height):
        low = high = seam[row]
        for line in range(max(row - reach, 0), min(row + reach, height - 1) + 1):
            low = min(low, seam[line])
            high = max(high, seam[line])
        first, last = max(low - reach, 0), min(high + reach - 1, width - 1)
        if mode == GRADIENT:
            _gradient_near(gray, energy, row, first, last, height, stride)
        else:
            _entropy(
                gray,
                energy,
                row,
                first,
                last,
                height,
                width,
                stride,
                histogram,
                count_gains,
                window_terms,
                sums,
            )
        if weights.size:
            _add_weights(energy, weights, row, first, last, stride)


@kernel
def change_cell(
    gray: Bytes,
    energy: Energies,
    sums: Integers,
    row: int,
    column: int,
    value: int,
    height: int,
    width: int,
    stride: int,
    count_gains: Counts,
    window_terms: Counts,
) -> None:
    """Write a gray value and bring the entropies and ``sums`` of the windows around it up to date.

    Only the old and the new value change their counts there: those alone are counted.
    """
    cell = row * stride + MARGIN + column
    before, after = gray[cell], np.uint8(value)
    left, right = max(column - 2 * ENTROPY_REACH, 0), min(column + 2 * ENTROPY_REACH, width - 1)
    first, last = max(column - ENTROPY_REACH, 0), min(column + ENTROPY_REACH, width - 1)
    lanes = right - left + 1
    # In a window's rows of each column: how often the old value, and 2**16 times the new one.
    counts = np.zeros(4 * ENTROPY_REACH + 1, dtype=np.int32)
    top = max(row - 2 * ENTROPY_REACH, 0)
    bottom = top - 1
    for near in range(max(row - ENTROPY_REACH, 0), min(row + ENTROPY_REACH, height - 1) + 1):
        while bottom < min(near + ENTROPY_REACH, height - 1):
            bottom += 1
            start = index(bottom * stride + MARGIN + left)
            for lane in range(index(lanes)):
                met = gray[start + lane]
                counts[lane] += np.int32(met == before) + (np.int32(met == after) << 16)
        while top < near - ENTROPY_REACH:
            start = index(top * stride + MARGIN + left)
            for lane in range(index(lanes)):
                met = gray[start + lane]
                counts[lane] -= np.int32(met == before) + (np.int32(met == after) << 16)
            top += 1
        lines = bottom - top + 1
        low, high = max(first - ENTROPY_REACH, 0), max(first - ENTROPY_REACH, 0) - 1
        both = 0
        for center in range(first, last + 1):
            while high < min(center + ENTROPY_REACH, width - 1):
                high += 1
                both += counts[index(high - left)]
            while low < center - ENTROPY_REACH:
                both -= counts[index(low - left)]
                low += 1
            here = index(near * stride + MARGIN + center)
            terms = np.int64(sums[here])
            terms += count_gains[index(both >> 16)] - count_gains[index((both & 0xFFFF) - 1)]
            sums[here] = terms
            energy[here] = _energy_of(terms, lines * (high - low + 1), window_terms)
    gray[cell] = after
