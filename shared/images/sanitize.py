"""Turns an upload into what is stored: the same picture, and nothing else."""

import hashlib
import io
from dataclasses import dataclass

from PIL import Image

from shared.images.apart import convert_apart
from shared.images.color import to_rgb
from shared.images.decode import decoding, open_checked
from shared.images.gif import keep_first_frame
from shared.images.icc import is_profile
from shared.images.jpeg import StrippedJpeg, strip_jpeg
from shared.images.jpeg_frame import read_frame
from shared.images.jpeg_whole import check_whole
from shared.images.limits import (
    ImageLimits,
    ImageRejectedError,
    Stripped,
    corrupt,
    share,
    unsupported,
)
from shared.images.png import strip_png
from shared.images.sniff import refuse_unread, sniff
from shared.images.tiff import keep_picture
from shared.images.webp import strip_webp

MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_SHOWN = {"WEBP": "WebP"}
_SAMPLE_BITS = 258  # tag of a TIFF


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """A clean image. ``width`` and ``height`` are those of the upright picture.

    ``orientation`` (EXIF, 1 to 8) says how to turn the stored pixels upright. ``notes`` say what
    changed on the way: format, mode, depth, what was left out.
    """

    data: bytes
    media_type: str
    width: int
    height: int
    orientation: int
    sha256: str
    notes: tuple[str, ...] = ()


def sanitize(data: bytes, limits: ImageLimits) -> StoredImage:
    """Check an upload and strip it; raises ``ImageRejectedError``.

    JPEG, PNG and WebP keep their compressed pixels and color profile bit for bit; their EXIF
    orientation is returned, not applied. HEIC and AVIF become a JPEG (with transparency a PNG).
    BMP, TIFF and GIF, and the first frame of an animated WebP, become a PNG (a TIFF is turned
    upright, and other than 8-bit colors and 16-bit gray become 8-bit sRGB). Metadata, thumbnails,
    invalid profiles, stray and trailing bytes are gone; all data has been decoded once, so what is
    stored is whole.
    """
    if not data:
        raise ImageRejectedError("empty-image", "The image has no bytes.")
    if len(data) > limits.max_bytes:
        raise ImageRejectedError(
            "image-too-large", f"The image has more than {limits.max_bytes} bytes."
        )
    found = sniff(data)
    if found is None:
        raise refuse_unread(data)
    with decoding():
        if found == "JPEG":
            return _stored_jpeg(strip_jpeg(data), limits)
        if found == "PNG":
            return _stored_or_encoded(strip_png(data, limits), found, limits)
        if found == "WEBP":
            return _stored_or_encoded(strip_webp(data, limits), found, limits)
        if found == "GIF":
            return _encoded(keep_first_frame(data), found, limits)
        if found == "TIFF":
            return _encoded(keep_picture(data, limits), found, limits)
        if found in ("HEIC", "AVIF"):
            return _converted(data, found, limits)
        return _encoded(Stripped(data, is_still=False), found, limits)


def _stored_jpeg(jpeg: StrippedJpeg, limits: ImageLimits) -> StoredImage:
    frame = read_frame(jpeg.data)
    if frame.precision != 8:
        raise unsupported(f"The file is a JPEG of {frame.precision} bits a sample.")
    image = open_checked(jpeg.data, limits, ("JPEG",))
    size = image.size
    # All of the data is read and checked, with an eighth of the pixels' sides to hold.
    image.draft(None, (1, 1))
    image.load()
    notes = jpeg.notes + check_whole(jpeg, frame, image)
    return _stored(jpeg.data, MEDIA_TYPES["JPEG"], size, jpeg.orientation, notes)


def _stored_or_encoded(stripped: Stripped, found: str, limits: ImageLimits) -> StoredImage:
    if not stripped.is_still:
        return _encoded(stripped, found, limits)
    image = open_checked(stripped.data, limits, (found,))
    _load(image)
    return _stored(
        stripped.data, MEDIA_TYPES[found], image.size, stripped.orientation, stripped.notes
    )


def _encoded(stripped: Stripped, found: str, limits: ImageLimits) -> StoredImage:
    """Store the first frame as a PNG (Pillow turns a TIFF upright when it loads it)."""
    image = open_checked(stripped.data, limits, (found,))
    profile = image.info.get("icc_profile")
    changes = _depth(image)
    _load(image)
    if image.mode not in _PNG_MODES:
        changes = (f"{_mode_name(image.mode)} became 8-bit sRGB",)
        image, profile = to_rgb(image), None
    transparency = image.info.get("transparency")
    image.info = {} if transparency is None else {"transparency": transparency}
    clean = io.BytesIO()
    image.save(clean, "PNG", icc_profile=profile if is_profile(profile) else None)
    notes = (f"the {_SHOWN.get(found, found)} was converted to a PNG", *changes, *stripped.notes)
    return _stored(clean.getvalue(), MEDIA_TYPES["PNG"], image.size, stripped.orientation, notes)


def _converted(data: bytes, found: str, limits: ImageLimits) -> StoredImage:
    """Store a HEIC or AVIF as the JPEG or PNG that a process of its own makes of it."""
    made = convert_apart(data, found, limits)
    stripped = (
        strip_jpeg(made.data) if made.media_type == "image/jpeg" else strip_png(made.data, limits)
    )
    return _stored(stripped.data, made.media_type, (made.width, made.height), 1, made.notes)


def _load(image: Image.Image) -> None:
    """Decode; a file that ends too early is refused with how much is missing."""
    try:
        image.load()
    except OSError as error:
        if "truncated" not in str(error):
            raise
        # Rows that were not decoded are still zero; they need not be the last ones.
        rows = bytes(image.im.getprojection()[1])
        missing = rows.count(0) / len(rows)
        raise corrupt(f"it is cut off, and {share(missing)}") from error


def _depth(image: Image.Image) -> tuple[str, ...]:
    """Note that 16-bit color is read as 8 bits a channel."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_SAMPLE_BITS, (8,))
    if image.mode in ("RGB", "RGBA", "LA") and max(bits) > 8:
        return (f"{max(bits)} bits a channel became 8",)
    return ()


def _mode_name(mode: str) -> str:
    if mode.startswith("I"):
        return "32-bit gray" if mode == "I" else "16-bit gray"
    return {"F": "floating-point gray", "LAB": "CIE L*a*b*"}.get(mode, mode)


def _stored(
    data: bytes,
    media_type: str,
    size: tuple[int, int],
    orientation: int,
    notes: tuple[str, ...],
) -> StoredImage:
    width, height = size if orientation < 5 else size[::-1]
    return StoredImage(
        data=data,
        media_type=media_type,
        width=width,
        height=height,
        orientation=orientation,
        sha256=hashlib.sha256(data).hexdigest(),
        notes=notes,
    )
