"""Encodes a result's picture as the media type that a client asks for."""

import io

from shared.images.color import to_rgb
from shared.images.convert import QUALITY, to_jpeg
from shared.images.decode import FORMATS, decoding, open_checked
from shared.images.icc import is_profile
from shared.images.limits import ImageLimits

ENCODABLE = ("image/jpeg", "image/png", "image/webp")


def encode_as(media_type: str, data: bytes, limits: ImageLimits) -> bytes:
    """Encode a picture as a media type of ``ENCODABLE``, with the same dimensions.

    JPEG and WebP are of quality 95, JPEG with full color resolution; PNG keeps all 8-bit samples
    and the color profile. Raises ``ImageRejectedError`` for a picture that cannot be decoded.
    """
    if media_type == "image/jpeg":
        return to_jpeg(data, limits=limits)
    with decoding():
        image = open_checked(data, limits, FORMATS)
        profile = image.info.get("icc_profile")
        image.load()
        if media_type == "image/webp" or image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
            image, profile = to_rgb(image), None
        transparency = image.info.get("transparency")
        image.info = {} if transparency is None else {"transparency": transparency}
        encoded = io.BytesIO()
        if media_type == "image/webp":
            image.save(encoded, "WEBP", quality=QUALITY)
        else:
            image.save(encoded, "PNG", icc_profile=profile if is_profile(profile) else None)
        return encoded.getvalue()
