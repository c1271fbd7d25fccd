"""Image safety: uploads are hostile until ``sanitize`` has been through them."""

from shared.images.color import to_rgb
from shared.images.decode import decode_rgb, limit_concurrent_decodes
from shared.images.encode import ENCODABLE, encode_as
from shared.images.limits import ImageLimits, ImageRejectedError
from shared.images.sanitize import MEDIA_TYPES, StoredImage, sanitize

__all__ = [
    "ENCODABLE",
    "MEDIA_TYPES",
    "ImageLimits",
    "ImageRejectedError",
    "StoredImage",
    "decode_rgb",
    "encode_as",
    "limit_concurrent_decodes",
    "sanitize",
    "to_rgb",
]
