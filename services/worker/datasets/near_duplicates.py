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
    groups = np.arange(count)
    for start in range(0, count, _ROWS):
        block = bits[start : start + _ROWS]
        near = np.bitwise_count(block[:, None] ^ bits[None, start:]) <= MOST_BITS
        for row in np.flatnonzero(near.sum(axis=1) > 1):
            first = int(start + row)
            others = start + np.flatnonzero(near[row])
            # Most of a large group are in it after its first row.
            others = others[(others > first) & (groups[others] != groups[first])]
            for joined in set(groups[others[_alike(colors[first], colors[others])]].tolist()):
                low, high = sorted((int(groups[first]), joined))
                groups[groups == high] = low
        if progress is not None:
            progress(min(count, start + _ROWS), count)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(group, len(numbers)) for group in groups.tolist()]


def _alike(first: NDArray[np.int16], others: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Compare a thumbnail ``(64, 3)`` with others ``(N, 64, 3)``."""
    # Flat pictures all have the same bits: their colors decide.
    difference = (first - others).astype(np.float32)
    shift = difference.mean(axis=(1, 2))
    rest = np.abs(difference - shift[:, None, None]).mean(axis=(1, 2))
    found: NDArray[np.bool_] = (rest <= MOST_DIFFERENCE) & (np.abs(shift) <= 2 * MOST_DIFFERENCE)
    return found
