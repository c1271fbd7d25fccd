"""Turns an upload into what is stored: the same picture, and nothing else."""

import hashlib
import io
from dataclasses import dataclass

from shared.images.decode import decoding, open_checked, to_rgb
from shared.images.gif import keep_first_frame
from shared.images.icc import is_profile
from shared.images.jpeg import strip_jpeg
from shared.images.limits import ImageLimits, ImageRejectedError, Stripped, unsupported
from shared.images.png import SIGNATURE, strip_png
from shared.images.tiff import keep_first_page
from shared.images.webp import strip_webp

MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
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

    JPEG, PNG and WebP keep their compressed pixels and color profile bit for bit; their EXIF
    orientation is returned, not applied. BMP, TIFF and GIF, and the first frame of an animated
    WebP, become a PNG (a TIFF is turned upright, and other than 8-bit colors and 16-bit gray
    become 8-bit sRGB). Metadata, thumbnails, invalid profiles and trailing bytes are gone; all
    data has been decoded once, so what is stored is whole.
    """
    if not data:
        raise ImageRejectedError("empty-image", "The image has no bytes.")
    if len(data) > limits.max_bytes:
        raise ImageRejectedError(
            "image-too-large", f"The image has more than {limits.max_bytes} bytes."
        )
    found = sniff(data)
    if found is None:
        raise unsupported("The file is not a JPEG, PNG, WebP, BMP, TIFF or GIF image.")
    with decoding():
        if found == "JPEG":
            return _stored_or_encoded(strip_jpeg(data), found, limits)
        if found == "PNG":
            return _stored_or_encoded(strip_png(data, limits), found, limits)
        if found == "WEBP":
            return _stored_or_encoded(strip_webp(data, limits), found, limits)
        if found == "GIF":
            return _encoded(keep_first_frame(data), found, limits, orientation=1)
        if found == "TIFF":
            return _encoded(keep_first_page(data, limits), found, limits, orientation=1)
        return _encoded(data, found, limits, orientation=1)


def _stored_or_encoded(stripped: Stripped, found: str, limits: ImageLimits) -> StoredImage:
    if not stripped.is_still:
        return _encoded(stripped.data, found, limits, orientation=stripped.orientation)
    image = open_checked(stripped.data, limits, (found,))
    size = image.size
    if found == "JPEG":
        # All of the data is read and checked, with an eighth of the pixels' sides to hold.
        image.draft(None, (1, 1))
    image.load()
    return _stored(stripped.data, MEDIA_TYPES[found], size, stripped.orientation)


def _encoded(data: bytes, found: str, limits: ImageLimits, *, orientation: int) -> StoredImage:
    """Store the first frame as a PNG (Pillow turns a TIFF upright when it loads it)."""
    image = open_checked(data, limits, (found,))
    profile = image.info.get("icc_profile")
    image.load()
    if image.mode not in _PNG_MODES:
        image, profile = to_rgb(image), None
    transparency = image.info.get("transparency")
    image.info = {} if transparency is None else {"transparency": transparency}
    clean = io.BytesIO()
    image.save(clean, "PNG", icc_profile=profile if is_profile(profile) else None)
    return _stored(clean.getvalue(), MEDIA_TYPES["PNG"], image.size, orientation)


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
