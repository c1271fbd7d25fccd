"""Converts pixels of any mode to 8-bit sRGB: the one place where colors are managed."""

import io
from typing import Any

from PIL import Image, ImageCms

from shared.images.icc import is_profile
from shared.images.limits import corrupt


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded image of any mode to 8-bit sRGB without transparency."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        image = _to_eight_bits(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        colors = image.convert("L") if image.mode in ("L", "LA") else rgba.convert("RGB")
        opaque = _in_srgb(colors, profile).convert("RGB")
        opaque.paste("white", mask=alpha.point([255 - a for a in range(256)]))
        return opaque
    if image.mode in ("P", "1"):
        image = image.convert("RGB")
    if image.mode == "LAB":
        return _from_lab(image)
    return _in_srgb(image, profile).convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale gray of 16 bits, or of 32 or floats, to 8; a transparent shade becomes white.

    16 bits are scaled by their format's range. The others have no agreed range: the smallest of
    [0, 1] (floats only), [0, 255], [0, 65535] and [0, highest value] that holds them is taken.
    """
    is_float = image.mode == "F"
    is_sixteen = image.mode.startswith("I;16")
    wide = image if is_float else image.convert("I")
    highest: Any = wide.getextrema()[1]
    ranges = [*([1] if is_float else []), *([] if is_sixteen else [255]), 65535]
    top = next((top for top in ranges if highest <= top), highest)
    offset = 0 if is_float else 0.5  # floats are rounded by the conversion, integers are cut
    gray = wide.point(lambda value: value * (255 / top) + offset).convert("L")
    transparent = image.info.get("transparency")
    if is_sixteen and isinstance(transparent, int):
        shades = [255 * (shade == transparent) for shade in range(65536)]
        gray.paste(255, mask=wide.point(shades, "L"))
    return gray


def _in_srgb(image: Image.Image, profile: Any) -> Image.Image:
    """Convert by the embedded profile; one that cannot be used is ignored."""
    if image.mode not in ("RGB", "L", "CMYK") or not is_profile(profile):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return converted or image


def _from_lab(image: Image.Image) -> Image.Image:
    """Convert CIE L*a*b* (D50), which has no profile of its own."""
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if converted is None:
        raise corrupt("its colors cannot be converted")
    return converted
