"""Applies seams that were found: removal, insertion and marks."""

import numpy as np

from services.worker.defenses.jit import kernel
from services.worker.defenses.seam_carving.energies import Bytes, Energies, Integers


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
