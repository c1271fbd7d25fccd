"""Filters of the picture: median, bit depth, JPEG and non-local means."""

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from services.worker.defenses.base import FixedDefense
from services.worker.defenses.pixels import from_bytes, to_bytes


class MedianFilter(FixedDefense):
    """Median of a ``size`` x ``size`` window, each channel alone, the border repeated.

    Odd sizes from 3 to 255, and 2: the window of the pixel, its left and upper neighbors, and of
    the four values the second largest, as in Xu et al. (2018).
    """

    name = "median"

    def __init__(self, *, size: int = 3) -> None:
        if size != 2 and (not 3 <= size <= 255 or size % 2 == 0):
            raise ValueError(
                f"a median window of {size} cannot be used: take 2 or an odd size from 3 to 255"
            )
        self.size = size

    def transform(self, images: Tensor) -> Tensor:
        pixels = to_bytes(images)
        if self.size == 2:
            return from_bytes(_median_of_four(pixels), images)
        out = np.empty_like(pixels)
        for image, target in zip(pixels, out, strict=True):
            cv2.medianBlur(image, self.size, dst=target)
        return from_bytes(out, images)


def _median_of_four(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    padded = np.pad(pixels, ((0, 0), (1, 0), (1, 0), (0, 0)), mode="edge")
    a, b = padded[:, 1:, 1:], padded[:, 1:, :-1]
    c, d = padded[:, :-1, 1:], padded[:, :-1, :-1]
    second: NDArray[np.uint8] = np.maximum(
        np.minimum(np.maximum(a, b), np.maximum(c, d)),
        np.maximum(np.minimum(a, b), np.minimum(c, d)),
    )
    return second


class BitDepth(FixedDefense):
    """Rounds each value to ``bits`` bits: to one of 2^bits levels evenly spread over [0, 1]."""

    name = "bit_depth"

    def __init__(self, *, bits: int = 4) -> None:
        if not 1 <= bits <= 8:
            raise ValueError(f"a bit depth of {bits} cannot be used: take 1 to 8 bits")
        self.bits = bits
        levels = 2**bits - 1
        values = np.arange(256) * levels
        # Round half up in whole numbers, onto the 8-bit grid again.
        steps = (2 * values + 255) // 510
        self._table = ((2 * steps * 255 + levels) // (2 * levels)).astype(np.uint8)

    def transform(self, images: Tensor) -> Tensor:
        return from_bytes(self._table[to_bytes(images)], images)


class Jpeg(FixedDefense):
    """Encodes as JPEG and decodes again (Das et al. 2017; Guo et al. 2018)."""

    name = "jpeg"

    def __init__(self, *, quality: int = 75) -> None:
        if not 1 <= quality <= 95:
            raise ValueError(f"a JPEG quality of {quality} cannot be used: take 1 to 95")
        self.quality = quality

    def transform(self, images: Tensor) -> Tensor:
        return from_bytes(np.stack([self._recode(image) for image in to_bytes(images)]), images)

    def _recode(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=self.quality)
        with Image.open(buffer) as decoded:
            return np.asarray(decoded)


class NonLocalMeans(FixedDefense):
    """Non-local means (Buades et al. 2005) in Lab; the defaults are the 11-3-4 of Xu et al."""

    name = "non_local_means"

    def __init__(self, *, search: int = 11, patch: int = 3, strength: float = 4.0) -> None:
        if search % 2 == 0 or patch % 2 == 0 or not 1 <= patch <= search:
            raise ValueError(
                "non-local means needs an odd search window and an odd patch no larger than it"
            )
        if strength <= 0:
            raise ValueError("the strength of non-local means is above 0")
        self.search, self.patch, self.strength = search, patch, strength

    def transform(self, images: Tensor) -> Tensor:
        out = [
            cv2.fastNlMeansDenoisingColored(
                image,
                None,
                h=self.strength,
                hColor=self.strength,
                templateWindowSize=self.patch,
                searchWindowSize=self.search,
            )
            for image in to_bytes(images)
        ]
        return from_bytes(np.stack(out).astype(np.uint8), images)
