"""Decodes a stored image to upright sRGB pixels."""

import io
import threading
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageCms

from shared.images.limits import ImageLimits, ImageRejectedError, corrupt

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
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    ArithmeticError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    MemoryError,
)


class _Gate:
    """Bounds how many images are decoded at once in this process."""

    def __init__(self, most: int) -> None:
        self.semaphore = threading.BoundedSemaphore(most)


_gate = _Gate(2)


def limit_concurrent_decodes(most: int) -> None:
    """Set how many images this process decodes at once; call it before any is."""
    _gate.semaphore = threading.BoundedSemaphore(most)


def open_checked(data: bytes, limits: ImageLimits, formats: tuple[str, ...]) -> Image.Image:
    """Read the header and check the size, before any pixel is decoded."""
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except _DECODE_ERRORS as error:
        raise corrupt("its header cannot be read") from error
    check_size(*image.size, limits)
    return image


def check_size(width: int, height: int, limits: ImageLimits) -> None:
    """Refuse an image of too many pixels, or of none."""
    if width < 1 or height < 1:
        raise corrupt("it has no pixels")
    if width * height > limits.max_pixels:
        raise ImageRejectedError(
            "image-too-many-pixels",
            f"The image has {width} x {height} pixels; the limit is {limits.max_pixels}.",
        )


def load_pixels(image: Image.Image) -> None:
    """Decode all pixels, bounded in number at once."""
    with _gate.semaphore:
        try:
            image.load()
        except _DECODE_ERRORS as error:
            raise corrupt("its pixels cannot be decoded") from error


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

    image = open_checked(data, limits or ImageLimits(), FORMATS)
    if max_side is not None and image.format == "JPEG":
        image.draft(None, (max_side, max_side))
    load_pixels(image)
    try:
        upright = to_rgb(image)
        if orientation in _UPRIGHT:
            upright = upright.transpose(_UPRIGHT[orientation])
        if max_side is not None and max(upright.size) > max_side:
            upright.thumbnail((max_side, max_side), Image.Resampling.BILINEAR, reducing_gap=2.0)
        return np.array(upright, dtype=np.uint8)
    except _DECODE_ERRORS as error:
        raise corrupt("its pixels cannot be converted") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded image of any mode to 8-bit sRGB without transparency."""
    if image.mode.startswith(("I", "F")):
        image = _to_eight_bits(image)
    if image.has_transparency_data:
        image = _in_srgb(image.convert("RGBA"), image.info.get("icc_profile"))
        background = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(background, image.convert("RGBA")).convert("RGB")
    if image.mode in ("P", "1"):
        image = _keeping_profile(image, "RGB")
    return _in_srgb(image, image.info.get("icc_profile")).convert("RGB")


def _keeping_profile(image: Image.Image, mode: str) -> Image.Image:
    converted = image.convert(mode)
    converted.info["icc_profile"] = image.info.get("icc_profile")
    return converted


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit (or 32-bit, or float) gray to 8 bits by its format's range, not its values."""
    import numpy as np  # noqa: PLC0415 - as above

    values = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        values = values * 255 if values.max(initial=0) <= 1 else values
    else:
        values = values / 257 if image.mode.startswith("I;16") or values.max() > 255 else values
    return Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8))


def _in_srgb(image: Image.Image, profile: Any) -> Image.Image:
    """Convert by the embedded profile; one that cannot be used is ignored."""
    if not profile or image.mode not in ("RGB", "RGBA", "L", "CMYK"):
        return image
    output = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode=output
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return converted or image
