"""Decodes a stored image to upright sRGB pixels."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from PIL import Image

from shared.images.color import to_rgb
from shared.images.limits import ImageLimits, ImageRejectedError, check_size, corrupt
from shared.memory import is_out_of_memory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Pixels are capped here, before decoding and lower than Pillow's own threshold.
Image.MAX_IMAGE_PIXELS = None

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class _Gate:
    """Bounds how many images are decoded at once in this process."""

    def __init__(self, most: int) -> None:
        self.semaphore = threading.BoundedSemaphore(most)


_gate = _Gate(2)


def limit_concurrent_decodes(most: int) -> None:
    """Set how many images this process decodes at once; call it before any is."""
    _gate.semaphore = threading.BoundedSemaphore(most)


@contextmanager
def decoding() -> Iterator[None]:
    """Take one of the places for decoding; whatever hostile data breaks is a refusal.

    A lack of memory is not: it says nothing of the image.
    """
    with _gate.semaphore:
        try:
            yield
        except ImageRejectedError:
            raise
        # Decoders and their parsers raise whatever they like on damaged data.
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise corrupt("it cannot be decoded") from error


def open_checked(data: bytes, limits: ImageLimits, formats: tuple[str, ...]) -> Image.Image:
    """Read the header and check the size, before any pixel is decoded."""
    image = Image.open(io.BytesIO(data), formats=formats)
    check_size(*image.size, limits)
    return image


def decode_rgb(
    data: bytes,
    orientation: int = 1,
    *,
    limits: ImageLimits | None = None,
    max_side: int | None = None,
) -> "NDArray[np.uint8]":
    """Decode to upright sRGB: uint8 ``(H, W, 3)``.

    Color profiles are converted, 16 bits become 8, CMYK and palettes become RGB, transparency is
    laid on white. ``max_side`` bounds the longer side in pixels (a JPEG is then decoded at a
    reduced scale). Raises ``ImageRejectedError`` for damaged data.
    """
    import numpy as np  # noqa: PLC0415 - the API imports this module and needs no arrays

    with decoding():
        image = open_checked(data, limits or ImageLimits(), FORMATS)
        if max_side is not None and image.format == "JPEG":
            image.draft(None, (max_side, max_side))
        image.load()
        if image.mode in ("RGB", "L", "CMYK") and not image.has_transparency_data:
            _shrink(image, max_side)  # the fewer pixels, the faster the conversions below
        upright = to_rgb(image)
        if orientation in _UPRIGHT:
            upright = upright.transpose(_UPRIGHT[orientation])
        _shrink(upright, max_side)
        return np.array(upright, dtype=np.uint8)


def _shrink(image: Image.Image, max_side: int | None) -> None:
    if max_side is not None and max(image.size) > max_side:
        image.thumbnail((max_side, max_side), Image.Resampling.BILINEAR, reducing_gap=2.0)
