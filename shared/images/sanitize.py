"""Turns an upload into what is stored: the same picture, and nothing else."""

import hashlib
import io
from dataclasses import dataclass

from PIL import Image, ImageOps

from shared.images.decode import check_size, load_pixels, open_checked, to_rgb
from shared.images.jpeg import strip_jpeg
from shared.images.limits import ImageLimits, ImageRejectedError
from shared.images.png import SIGNATURE, strip_png
from shared.images.webp import strip_webp

MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_ORIENTATION = 0x0112
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """A clean image. ``width`` and ``height`` are those of the upright picture.

    ``orientation`` (EXIF, 1 to 8) says how to turn the stored pixels upright.
    """

    data: bytes
    media_type: str
    width: int
    height: int
    orientation: int
    sha256: str


def sniff(data: bytes) -> str | None:
    """Return the format by its content, never by a name or a declared type."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(SIGNATURE):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return "TIFF"
    if data[:2] == b"BM":
        return "BMP"
    return None


def sanitize(data: bytes, limits: ImageLimits) -> StoredImage:
    """Check an upload and strip it; raises ``ImageRejectedError``.

    JPEG, PNG and WebP keep their compressed pixels and color profile bit for bit. BMP, TIFF and
    GIF, and the first frame of an animated WebP, become an upright PNG. Metadata, thumbnails and
    trailing bytes are gone; every pixel has been decoded once, so what is stored is whole.
    """
    if not data:
        raise ImageRejectedError("empty-image", "The image has no bytes.")
    if len(data) > limits.max_bytes:
        raise ImageRejectedError(
            "image-too-large", f"The image has more than {limits.max_bytes} bytes."
        )
    found = sniff(data)
    if found is None:
        raise ImageRejectedError(
            "unsupported-image-type", "The file is not a JPEG, PNG, WebP, BMP, TIFF or GIF image."
        )
    orientation = _orientation(data, found, limits)
    if found == "JPEG":
        return _kept(strip_jpeg(data), found, orientation, limits)
    if found == "PNG":
        return _kept(strip_png(data), found, orientation, limits)
    if found == "WEBP":
        stripped = strip_webp(data)
        check_size(stripped.width, stripped.height, limits)
        if not stripped.animated:
            return _kept(stripped.data, found, orientation, limits)
    return _reencoded(data, found, limits)


def _orientation(data: bytes, found: str, limits: ImageLimits) -> int:
    if found == "WEBP":
        stripped = strip_webp(data)
        check_size(stripped.width, stripped.height, limits)
    try:
        with Image.open(io.BytesIO(data), formats=(found, "MPO")) as image:
            value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # whatever hostile metadata breaks in a parser, the pixels decide
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _kept(data: bytes, found: str, orientation: int, limits: ImageLimits) -> StoredImage:
    image = open_checked(data, limits, (found,))
    load_pixels(image)
    return _stored(data, MEDIA_TYPES[found], image.size, orientation)


def _reencoded(data: bytes, found: str, limits: ImageLimits) -> StoredImage:
    image = open_checked(data, limits, (found,))
    profile = image.info.get("icc_profile")
    load_pixels(image)
    image = ImageOps.exif_transpose(image)
    if image.mode not in _PNG_MODES:
        image, profile = to_rgb(image), None
    clean = io.BytesIO()
    transparency = (
        {"transparency": image.info["transparency"]}
        if image.mode == "P" and ("transparency" in image.info)
        else {}
    )
    image.info = {}
    image.save(clean, "PNG", icc_profile=profile, **transparency)
    return _stored(clean.getvalue(), "image/png", image.size, orientation=1)


def _stored(data: bytes, media_type: str, size: tuple[int, int], orientation: int) -> StoredImage:
    width, height = size if orientation < 5 else size[::-1]
    return StoredImage(
        data=data,
        media_type=media_type,
        width=width,
        height=height,
        orientation=orientation,
        sha256=hashlib.sha256(data).hexdigest(),
    )
