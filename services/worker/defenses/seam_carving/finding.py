"""Finds seams one after the other, and for images that are nearly alike most of them only once."""

from typing import NamedTuple

import numpy as np

from services.worker.defenses.jit import kernel
from services.worker.defenses.seam_carving.costs import (
    FAR,
    accumulate_narrow,
    accumulate_wide,
    trace,
)
from services.worker.defenses.seam_carving.energies import (
    Bytes,
    Counts,
    Energies,
    Integers,
    fill,
    renew,
)
from services.worker.defenses.seam_carving.following import (
    MOST_CHANGED,
    Leader,
    Trial,
    accumulate_up,
    change,
    change_back,
    changes,
    keeps_seam,
    move_up,
)
from services.worker.defenses.seam_carving.layout import (
    ENTROPY,
    MARGIN,
    WALL,
    lay_out,
    repeat_border,
    row_stride,
    shift,
)


class Board(NamedTuple):
    """An image while seams are taken out of it, in rows as ``layout`` has them.

    ``weights`` and ``sums`` (see ``change_cell``) are empty where there are none; ``columns`` are
    those of the cells at the start.
    """

    cells: Bytes
    energy: Energies
    weights: Energies
    columns: Energies
    costs: Energies
    sums: Integers


@kernel
def find_seams(
    gray: Bytes,
    weights: Energies,
    leaders: Integers,
    mode: int,
    seams: Integers,
    count_gains: Counts,
    window_terms: Counts,
) -> None:
    """Find the cheapest seams of images ``(N, H, W)``, each after the removal of those before.

    ``weights (N, H, W)``, or ``(0, H, W)`` for none, are added to the energies. ``leaders (N,)``
    names for each image one that it is nearly alike, which has itself for a leader; or is -1. It
    saves time and changes no seam.
    ``seams (N, K, H)`` receives the columns in the coordinates of ``gray``.
    """
    images, height, width = gray.shape
    weighted = weights.shape[0] > 0
    stride = row_stride(width)
    board = _board(height, stride, weighted, summed=False)
    leading = _board(height, stride, weighted=False, summed=True)
    places = np.empty((images, MOST_CHANGED, 2), dtype=np.int32)
    values = np.empty((images, MOST_CHANGED), dtype=np.uint8)
    changed = np.full(images, -1, dtype=np.int32)  # pixels; -1 for an image that does not follow
    if mode == ENTROPY and not weighted:
        for image in range(images):
            leader = leaders[image]
            if leader >= 0 and leader != image:
                changed[image] = changes(gray[leader], gray[image], places[image], values[image])
    follows = changed >= 0
    for image in range(images):
        if follows[image]:
            continue
        leads = leaders[image] == image and follows.any()
        _set_up(
            leading if leads else board,
            gray,
            weights,
            image,
            mode,
            stride,
            count_gains,
            window_terms,
        )
        if leads:
            _lead(
                leading,
                board,
                image,
                leaders,
                changed,
                places,
                values,
                seams,
                width,
                stride,
                count_gains,
                window_terms,
            )
        else:
            _go_on(board, seams[image], 0, True, mode, width, stride, count_gains, window_terms)


@kernel
def _board(height: int, stride: int, weighted: bool, summed: bool) -> Board:
    size = height * stride
    return Board(
        np.zeros(size, dtype=np.uint8),
        np.empty(size, dtype=np.uint16),
        np.empty(size if weighted else 0, dtype=np.uint16),
        np.empty(size, dtype=np.uint16),
        np.full(size, WALL, dtype=np.uint16),
        np.empty(size if summed else 0, dtype=np.int32),
    )


@kernel
def _set_up(
    board: Board,
    gray: Bytes,
    weights: Energies,
    image: int,
    mode: int,
    stride: int,
    count_gains: Counts,
    window_terms: Counts,
) -> None:
    height, width = gray.shape[1:]
    lay_out(gray[image], board.cells, stride)
    for row in range(height):
        start = row * stride + MARGIN
        board.columns[start : start + width] = np.arange(width)
        if board.weights.size:
            board.weights[start : start + width] = weights[image, row]
    board.energy[:] = WALL
    fill(
        board.cells,
        board.energy,
        board.weights,
        mode,
        height,
        width,
        stride,
        count_gains,
        window_terms,
        board.sums,
    )


@kernel
def _go_on(
    board: Board,
    seams: Integers,
    first: int,
    narrow: bool,
    mode: int,
    width: int,
    stride: int,
    count_gains: Counts,
    window_terms: Counts,
) -> None:
    """Find an image's seams ``(K, H)`` from number ``first`` on; ``width`` is that at the start.

    ``narrow``: their costs may fit 16 bits, which is tried first.
    """
    count, height = seams.shape
    seam = np.empty(height, dtype=np.int32)
    wide_costs = np.empty(0, dtype=np.int32)
    for number in range(first, count):
        size = width - number
        if narrow:
            accumulate_narrow(board.cells, board.energy, board.costs, mode, height, size, stride)
            narrow = trace(board.cells, board.costs, seam, mode, height, size, stride) < WALL
        if not narrow:
            if wide_costs.size == 0:
                wide_costs = np.full(height * stride, FAR, dtype=np.int32)
            accumulate_wide(board.cells, board.energy, wide_costs, mode, height, size, stride)
            trace(board.cells, wide_costs, seam, mode, height, size, stride)
        for row in range(height):
            seams[number, row] = board.columns[row * stride + MARGIN + seam[row]]
        if number + 1 < count:
            _take_out(board, seam, mode, size, stride, count_gains, window_terms)


@kernel
def _take_out(
    board: Board,
    seam: Integers,
    mode: int,
    width: int,
    stride: int,
    count_gains: Counts,
    window_terms: Counts,
) -> None:
    height = seam.size
    shift(board.columns, seam, height, width, stride)
    shift(board.cells, seam, height, width, stride)
    repeat_border(board.cells, height, width - 1, stride)
    shift(board.energy, seam, height, width, stride)
    if board.sums.size:
        shift(board.sums, seam, height, width, stride)
    if board.weights.size:
        shift(board.weights, seam, height, width, stride)
    renew(
        board.cells,
        board.energy,
        board.weights,
        seam,
        mode,
        height,
        width - 1,
        stride,
        count_gains,
        window_terms,
        board.sums,
    )


@kernel
def _lead(
    board: Board,
    other: Board,
    leader: int,
    leaders: Integers,
    changed: Integers,
    places: Integers,
    values: Bytes,
    seams: Integers,
    width: int,
    stride: int,
    count_gains: Counts,
    window_terms: Counts,
) -> None:
    """Find the seams of a leader and of those that follow it.

    All go seam by seam together. A follower is the leader with a few pixels changed, as long as
    it takes the same seams; at the first other one it becomes an image of its own.
    """
    images, count, height = seams.shape
    size = height * stride
    seam = np.empty(height, dtype=np.int32)
    costs, rest = np.full(size, FAR, dtype=np.int32), np.full(size, FAR, dtype=np.int32)
    first = Leader(board.cells, board.energy, board.sums, costs, rest, seam)
    trial = Trial(board.energy.copy(), board.sums.copy(), np.full(size, FAR, dtype=np.int32))
    for number in range(count):
        left = width - number
        accumulate_wide(board.cells, board.energy, costs, ENTROPY, height, left, stride)
        accumulate_up(board.energy, rest, height, left, stride)
        narrow = trace(board.cells, costs, seam, ENTROPY, height, left, stride) < WALL
        for row in range(height):
            seams[leader, number, row] = board.columns[row * stride + MARGIN + seam[row]]
        trial.energy[:] = board.energy
        trial.sums[:] = board.sums
        for image in range(images):
            if leaders[image] != leader or changed[image] < 0:
                continue
            here, levels = places[image, : changed[image]], values[image, : changed[image]]
            change(first, trial, here, levels, left, stride, count_gains, window_terms)
            kept = keeps_seam(first, trial, here, left, stride)
            if not kept:
                other.cells[:], other.columns[:] = board.cells, board.columns
                other.energy[:] = trial.energy
            change_back(first, trial, here, levels, left, stride)
            if kept:
                seams[image, number] = seams[leader, number]
                changed[image] = move_up(here, levels, seam)
                continue
            changed[image] = -1
            _go_on(
                other,
                seams[image],
                number,
                narrow,
                ENTROPY,
                width,
                stride,
                count_gains,
                window_terms,
            )
        if number + 1 < count:
            _take_out(board, seam, ENTROPY, left, stride, count_gains, window_terms)
