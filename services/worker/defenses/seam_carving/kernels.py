"""Finds seams one after the other and applies them: removal and insertion."""

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
from services.worker.defenses.seam_carving.layout import (
    MARGIN,
    WALL,
    lay_out,
    repeat_border,
    row_stride,
    shift,
)


@kernel
def find_seams(
    gray: Bytes,
    weights: Energies,
    mode: int,
    seams: Integers,
    count_gains: Counts,
    window_terms: Counts,
) -> None:
    """Find the cheapest seams of images ``(N, H, W)``, each after the removal of those before.

    ``weights (N, H, W)``, or ``(0, H, W)`` for none, are added to the energies.
    ``seams (N, K, H)`` receives the columns in the coordinates of ``gray``.
    """
    images, height, width = gray.shape
    count = seams.shape[1]
    weighted = weights.shape[0] > 0
    stride = row_stride(width)
    cells = np.zeros(height * stride, dtype=np.uint8)
    energy = np.empty(height * stride, dtype=np.uint16)
    extra = np.empty(height * stride if weighted else 0, dtype=np.uint16)
    columns = np.empty(height * stride, dtype=np.uint16)  # of the cells, in ``gray``
    seam = np.empty(height, dtype=np.int32)
    narrow_costs = np.full(height * stride, WALL, dtype=np.uint16)
    wide_costs = np.empty(0, dtype=np.int32)
    for image in range(images):
        lay_out(gray[image], cells, stride)
        for row in range(height):
            start = row * stride + MARGIN
            columns[start : start + width] = np.arange(width)
            if weighted:
                extra[start : start + width] = weights[image, row]
        energy[:] = WALL
        fill(cells, energy, extra, mode, height, width, stride, count_gains, window_terms)
        narrow = True
        for number in range(count):
            size = width - number
            if narrow:
                accumulate_narrow(cells, energy, narrow_costs, mode, height, size, stride)
                narrow = trace(cells, narrow_costs, seam, mode, height, size, stride) < WALL
            if not narrow:
                if wide_costs.size == 0:
                    wide_costs = np.full(height * stride, FAR, dtype=np.int32)
                accumulate_wide(cells, energy, wide_costs, mode, height, size, stride)
                trace(cells, wide_costs, seam, mode, height, size, stride)
            for row in range(height):
                seams[image, number, row] = columns[row * stride + MARGIN + seam[row]]
            if number + 1 == count:
                break
            shift(columns, seam, height, size, stride)
            shift(cells, seam, height, size, stride)
            repeat_border(cells, height, size - 1, stride)
            shift(energy, seam, height, size, stride)
            if weighted:
                shift(extra, seam, height, size, stride)
            renew(
                cells,
                energy,
                extra,
                seam,
                mode,
                height,
                size - 1,
                stride,
                count_gains,
                window_terms,
            )


@kernel
def remove_seams(
    images: Bytes,
    weights: Energies,
    sources: Integers,
    seams: Integers,
    images_out: Bytes,
    weights_out: Energies,
    sources_out: Integers,
) -> None:
    """Copy all but the seams' cells: pixels ``(N, H, W, C)``, weights and sources ``(N, H, W)``.

    ``weights`` may be empty in the first axis: then they are left out.
    """
    height, width, channels = images.shape[1:]
    count = seams.shape[1]
    gone = np.empty(width, dtype=np.bool_)
    for image in range(images.shape[0]):
        for row in range(height):
            gone[:] = False
            for number in range(count):
                gone[seams[image, number, row]] = True
            out = 0
            for column in range(width):
                if gone[column]:
                    continue
                for channel in range(channels):
                    images_out[image, row, out, channel] = images[image, row, column, channel]
                sources_out[image, row, out] = sources[image, row, column]
                if weights.shape[0]:
                    weights_out[image, row, out] = weights[image, row, column]
                out += 1


@kernel
def insert_seams(
    images: Bytes,
    weights: Energies,
    sources: Integers,
    seams: Integers,
    images_out: Bytes,
    weights_out: Energies,
    sources_out: Integers,
) -> None:
    """Copy with a new cell before each of the seams' cells: the mean of its two neighbors."""
    height, width, channels = images.shape[1:]
    count = seams.shape[1]
    doubled = np.empty(width, dtype=np.bool_)
    for image in range(images.shape[0]):
        for row in range(height):
            doubled[:] = False
            for number in range(count):
                doubled[seams[image, number, row]] = True
            out = 0
            for column in range(width):
                left = max(column - 1, 0) if doubled[column] else column
                for copy in range(2 if doubled[column] else 1):
                    near = left if copy == 0 else column
                    for channel in range(channels):
                        pair = np.int64(images[image, row, near, channel])
                        pair += np.int64(images[image, row, column, channel])
                        images_out[image, row, out, channel] = pair // 2
                    sources_out[image, row, out] = sources[image, row, column]
                    if weights.shape[0]:
                        pair = np.int64(weights[image, row, near])
                        pair += np.int64(weights[image, row, column])
                        weights_out[image, row, out] = pair // 2
                    out += 1


@kernel
def mark_seams(sources: Integers, seams: Integers, first: int, sign: int, marks: Integers) -> None:
    """Write ``sign * (first + number)`` at the input pixels of each seam that have no mark."""
    for image in range(seams.shape[0]):
        for number in range(seams.shape[1]):
            for row in range(seams.shape[2]):
                pixel = sources[image, row, seams[image, number, row]]
                if marks[image, pixel] == 0:
                    marks[image, pixel] = sign * (first + number)
