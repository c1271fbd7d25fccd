"""Images that differ from another one in a few pixels, as the candidates of a pixel attack do.

A few pixels change the energies near them and nothing else. Where the cheapest seam stays the same,
and it mostly does, it need not be searched again: ``keeps_seam`` finds that out from the changed
energies alone, or from the part of the dynamic program below them.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.worker.defenses.jit import kernel
from services.worker.defenses.seam_carving.costs import FAR, accumulate_wide, add_row
from services.worker.defenses.seam_carving.energies import (
    ENTROPY_REACH,
    Bytes,
    Counts,
    Energies,
    Integers,
    change_cell,
)
from services.worker.defenses.seam_carving.layout import ENTROPY, MARGIN

MOST_CHANGED = 8  # pixels: with more, hardly any seam stays the same
FEWEST_ALIKE = 8  # images, for which one more is carved to lead them


class Leader(NamedTuple):
    """An image that others follow, at one of its seams; rows as ``layout`` has them.

    ``costs`` are those of seams from the top to each cell, ``rest`` from there to the bottom, both
    with the cell's own; ``sums`` as in ``change_cell``.
    """

    cells: Bytes
    energy: Energies
    sums: Integers
    costs: Integers
    rest: Integers
    seam: Integers


class Trial(NamedTuple):
    """What a follower has instead of its leader's while it is looked at."""

    energy: Energies
    sums: Integers
    costs: Integers


def add_leaders(
    images: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return images ``(N + L, H, W, C)``, leaders last, and the number of each one's leader.

    A leader is the median of three of those that follow it: what most of them have in common. It
    is its own leader; images that nothing is like have -1.
    """
    count = len(images)
    leaders = np.full(count, -1, dtype=np.int32)
    made: list[NDArray[np.uint8]] = []
    first = 0
    while first < count:
        size = _alike(images[first:])
        if size >= FEWEST_ALIKE:
            leaders[first : first + size] = count + len(made)
            made.append(np.sort(images[first : first + 3], axis=0)[1])
        first += size
    if not made:
        return images, leaders
    own = np.arange(count, count + len(made), dtype=np.int32)
    return np.concatenate([images, np.stack(made)]), np.concatenate([leaders, own])


@kernel
def _alike(images: Bytes) -> int:
    """Return how many images from the first one on differ from it as candidates do."""
    count = len(images)
    height, width, channels = images.shape[1:]
    for image in range(1, count):
        differing = 0
        for row in range(height):
            for column in range(width):
                for channel in range(channels):
                    if images[image, row, column, channel] != images[0, row, column, channel]:
                        differing += 1
                        break
            if differing > 2 * MOST_CHANGED:
                return image
    return count


@kernel
def changes(leader: Bytes, image: Bytes, places: Integers, values: Bytes) -> int:
    """Write the rows and columns where gray images ``(H, W)`` differ, and the image's values.

    Returns how many there are, or -1 if there are more than ``MOST_CHANGED``.
    """
    height, width = leader.shape
    found = 0
    for row in range(height):
        for column in range(width):
            if image[row, column] == leader[row, column]:
                continue
            if found == MOST_CHANGED:
                return -1
            places[found, 0], places[found, 1] = row, column
            values[found] = image[row, column]
            found += 1
    return found


@kernel
def move_up(places: Integers, values: Bytes, seam: Integers) -> int:
    """Take a seam out of the places of changed pixels; returns how many stay."""
    left = 0
    for number in range(len(places)):
        row, column = places[number]
        if column == seam[row]:
            continue
        places[left, 0] = row
        places[left, 1] = column - 1 if column > seam[row] else column
        values[left] = values[number]
        left += 1
    return left


@kernel
def accumulate_up(energy: Energies, rest: Integers, height: int, width: int, stride: int) -> None:
    """Fill ``rest`` with the least cost of a seam from each cell, its own included, downwards."""
    size = (width + MARGIN - 1) // MARGIN * MARGIN
    for row in range(height - 1, -1, -1):
        here = row * stride + MARGIN
        rest[here + size] = FAR
        if row == height - 1:
            rest[here : here + size] = energy[here : here + size]
            continue
        below = rest[here + stride - 1 : here + stride + size + 1]
        add_row(below, energy[here : here + size], rest[here : here + size])


@kernel
def change(
    leader: Leader,
    trial: Trial,
    places: Integers,
    values: Bytes,
    width: int,
    stride: int,
    count_gains: Counts,
    window_terms: Counts,
) -> None:
    """Make of the leader's cells, and of ``trial``, those of a follower; ``values`` are swapped."""
    for number in range(len(places)):
        row, column = places[number]
        cell = row * stride + MARGIN + column
        before = leader.cells[cell]
        change_cell(
            leader.cells,
            trial.energy,
            trial.sums,
            row,
            column,
            values[number],
            leader.seam.size,
            width,
            stride,
            count_gains,
            window_terms,
        )
        values[number] = before


@kernel
def change_back(
    leader: Leader, trial: Trial, places: Integers, values: Bytes, width: int, stride: int
) -> None:
    """Undo ``change``."""
    bottom = leader.seam.size - 1
    for number in range(len(places)):
        row, column = places[number]
        cell = row * stride + MARGIN + column
        leader.cells[cell], values[number] = values[number], leader.cells[cell]
        for near in range(max(row - ENTROPY_REACH, 0), min(row + ENTROPY_REACH, bottom) + 1):
            start = near * stride + MARGIN
            first = start + max(column - ENTROPY_REACH, 0)
            last = start + min(column + ENTROPY_REACH, width - 1)
            for cell in range(first, last + 1):
                trial.energy[cell] = leader.energy[cell]
                trial.sums[cell] = leader.sums[cell]


@kernel
def keeps_seam(leader: Leader, trial: Trial, places: Integers, width: int, stride: int) -> bool:
    """Whether the leader's seam is also that of the follower that ``change`` made of it."""
    if len(places) == 0 or _cannot_lose(leader, trial, places, width, stride):
        return True
    top = max(int(places[:, 0].min()) - ENTROPY_REACH, 0)
    if top > 0:
        above = (top - 1) * stride + MARGIN
        end = above + stride - MARGIN
        trial.costs[above:end] = leader.costs[above:end]
    height = leader.seam.size
    accumulate_wide(leader.cells, trial.energy, trial.costs, ENTROPY, height, width, stride, top)
    return _leads_along(trial.costs, leader.seam, top, width, stride)


@kernel
def _cannot_lose(leader: Leader, trial: Trial, places: Integers, width: int, stride: int) -> bool:
    """Whether the changed energies alone show that the leader's seam stays the cheapest.

    They do where none of them is on it, and no seam through one that fell can be as cheap: not
    even if each row gave the most that any of its energies fell by.
    """
    bottom = leader.seam.size - 1
    least = int(leader.costs[bottom * stride + MARGIN + leader.seam[bottom]])
    cheapest = FAR
    fall = 0
    lowest, highest = int(places[:, 0].min()), int(places[:, 0].max())
    for row in range(max(lowest - ENTROPY_REACH, 0), min(highest + ENTROPY_REACH, bottom) + 1):
        start = row * stride + MARGIN
        most = 0
        for number in range(len(places)):
            column = places[number, 1]
            if abs(places[number, 0] - row) > ENTROPY_REACH:
                continue
            first = start + max(column - ENTROPY_REACH, 0)
            last = start + min(column + ENTROPY_REACH, width - 1)
            for cell in range(first, last + 1):
                fell = int(leader.energy[cell]) - int(trial.energy[cell])
                if fell > 0:
                    most = max(most, fell)
                    through = int(leader.costs[cell]) + int(leader.rest[cell])
                    cheapest = min(cheapest, through - int(leader.energy[cell]))
        if trial.energy[start + leader.seam[row]] != leader.energy[start + leader.seam[row]]:
            return False
        fall += most
    return cheapest - fall > least


@kernel
def _leads_along(costs: Integers, seam: Integers, top: int, width: int, stride: int) -> bool:
    """Whether the way back up, ties broken as in ``trace``, is ``seam`` up to above ``top``.

    Higher up the costs are the leader's, and so is the way.
    """
    bottom = seam.size - 1
    start = bottom * stride + MARGIN
    least = costs[start + seam[bottom]]
    for column in range(width):
        cost = costs[start + column]
        if cost < least or (cost == least and column < seam[bottom]):
            return False
    for row in range(bottom - 1, max(top - 1, 0) - 1, -1):
        column = seam[row + 1]
        above = row * stride + MARGIN + column
        left, middle, right = costs[above - 1], costs[above], costs[above + 1]
        if right < middle and right < left:
            column += 1
        elif left <= middle:
            column -= 1
        if column != seam[row]:
            return False
    return True
