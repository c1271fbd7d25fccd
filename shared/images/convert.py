"""Converts a stored picture to JPEG, for those who ask for one."""

import io

from PIL import Image

from shared.images.color import to_rgb
from shared.images.decode import decoding, open_checked
from shared.images.icc import is_profile
from shared.images.limits import ImageLimits
from shared.images.sanitize import MEDIA_TYPES

QUALITY = 95
_ORIENTATION = 0x0112


def to_jpeg(data: bytes, orientation: int = 1, *, limits: ImageLimits | None = None) -> bytes:
    """Convert a stored JPEG, PNG or WebP to a JPEG of the same dimensions and color profile.

    A JPEG is returned as it is. EXIF's ``orientation``, 1 … 8, goes along. Transparency is laid on
    white; what has no 8-bit gray or RGB of its own becomes sRGB. Raises ``ImageRejectedError``.
    """
    with decoding():
        image = open_checked(data, limits or ImageLimits(), tuple(MEDIA_TYPES))
        if image.format == "JPEG":
            return data
        image.load()
        profile = image.info.get("icc_profile")
        if image.mode not in ("L", "RGB") or image.has_transparency_data:
            image, profile = to_rgb(image), None
        exif = Image.Exif()
        if orientation != 1:
            exif[_ORIENTATION] = orientation
        image.info = {}
        out = io.BytesIO()
        image.save(
            out,
            "JPEG",
            quality=QUALITY,
            subsampling=0,
            exif=exif.tobytes() if orientation != 1 else b"",
            icc_profile=profile if is_profile(profile) else None,
        )
        return out.getvalue()
