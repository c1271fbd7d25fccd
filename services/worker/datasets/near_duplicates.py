"""Near-duplicates: pictures that differ by size, coding or light only, found by a small hash."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

# Of 64 bits. On faces of different people the closest pairs differ by more.
MOST_BITS = 6
# Between thumbnails of 8 x 8 pixels: mean difference of the levels, light taken out.
MOST_DIFFERENCE = 10.0
_THUMBNAIL = 8
_ROWS = 512

Pixels = NDArray[np.uint8]
Hash = tuple[int, NDArray[np.int16]]


def picture_hash(image: Pixels) -> Hash:
    """Return 64 bits of brightness gradients (dHash, Krawetz 2013) and a small thumbnail.

    ``image`` is uint8 RGB ``(H, W, 3)``.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (_THUMBNAIL + 1, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    size = (_THUMBNAIL, _THUMBNAIL)
    colors = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.int16)
    return int(np.packbits(bits).view(">u8")[0]), colors.reshape(-1, 3)


def near_duplicate_groups(
    hashes: Sequence[Hash], *, progress: Callable[[int, int], None] | None = None
) -> list[int]:
    """Return a group number for each picture; near-duplicates, and theirs, share one.

    Groups are numbered from 0 in the order of their first picture. Takes time quadratic in the
    number of pictures, with a small constant: 10,000 take about a second.
    """
    count = len(hashes)
    bits = np.array([value for value, _ in hashes], dtype=np.uint64)
    colors = np.array([thumbnail for _, thumbnail in hashes], dtype=np.int16)
    parent = list(range(count))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for start in range(0, count, _ROWS):
        block = bits[start : start + _ROWS]
        distance = np.bitwise_count(block[:, None] ^ bits[None, start:])
        for row, column in zip(*np.nonzero(distance <= MOST_BITS), strict=True):
            first, second = int(start + row), int(start + column)
            if first < second and _alike(colors[first], colors[second]):
                one, other = sorted((root(first), root(second)))
                parent[other] = one
        if progress is not None:
            progress(min(count, start + _ROWS), count)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(number), len(numbers)) for number in range(count)]


def _alike(first: NDArray[np.int16], second: NDArray[np.int16]) -> bool:
    # Flat pictures all have the same bits: their colors decide.
    difference = first - second
    shift = difference.mean()
    return bool(
        np.abs(difference - shift).mean() <= MOST_DIFFERENCE and abs(shift) <= 2 * MOST_DIFFERENCE
    )
