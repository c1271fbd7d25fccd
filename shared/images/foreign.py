"""The process that decodes one HEIC or AVIF: standard input to standard output.

It answers a line of JSON, and after it the picture's bytes.
"""

import io
import json
import resource
import sys
from typing import Any

from PIL import Image, ImageOps

from shared.images.color import to_rgb
from shared.images.icc import is_profile
from shared.images.limits import ImageLimits, ImageRejectedError, check_size, corrupt, first_of

QUALITY = 95
_BASE_BYTES = 768 * 2**20  # the interpreter, its libraries and the decoders' threads
_BYTES_A_PIXEL = 24
_CPU_SECONDS = 60
# Transfer characteristics of ITU-T H.273: PQ and HLG.
_HIGH_DYNAMIC_RANGE = {16, 18}


def main() -> None:
    """Convert what comes in; a refusal is an answer, too."""
    found, limits = sys.argv[2], ImageLimits(**json.loads(sys.argv[3]))
    data = sys.stdin.buffer.read()
    _bound_this_process(limits)
    try:
        said, picture = convert(data, found, limits)
    except ImageRejectedError as refusal:
        said, picture = _refusal_document(refusal), b""
    # Decoders raise whatever they like on damaged data.
    except Exception:
        said, picture = _refusal_document(corrupt("it cannot be decoded")), b""
    sys.stdout.buffer.write(json.dumps(said).encode() + b"\n" + picture)


def _refusal_document(refusal: ImageRejectedError) -> dict[str, Any]:
    return {"slug": refusal.slug, "detail": refusal.detail}


def _bound_this_process(limits: ImageLimits) -> None:
    for kind, most in (
        (resource.RLIMIT_AS, _BASE_BYTES + _BYTES_A_PIXEL * limits.max_pixels),
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        # Whoever started this process may have bounds of its own: they cannot be raised.
        _, hard = resource.getrlimit(kind)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (limit, limit))


def convert(data: bytes, found: str, limits: ImageLimits) -> tuple[dict[str, Any], bytes]:
    """Return the description of the converted picture, and its bytes."""
    image, notes = _open_heic(data) if found == "HEIC" else _open_avif(data)
    check_size(*image.size, limits)
    image.load()
    check_size(*image.size, limits)  # decoding may correct what the container says
    # Pillow tells how an AVIF is turned as EXIF would; a HEIC comes upright.
    image = ImageOps.exif_transpose(image) if found == "AVIF" else image
    profile = image.info.get("icc_profile")
    profile = profile if is_profile(profile) else None
    see_through = _is_transparent(image)
    kind = "PNG" if see_through else "JPEG"
    if not see_through:
        image = image.convert("L" if image.mode in ("L", "LA", "La") else "RGB")
    elif image.mode in ("RGBa", "La"):
        image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    elif image.mode not in ("RGBA", "LA"):
        image, profile = to_rgb(image), None
    image.info = {}
    # Chroma is not halved once more: what was 4:2:0 stays as it is.
    settings = {} if see_through else {"quality": QUALITY, "subsampling": 0}
    out = io.BytesIO()
    image.save(out, kind, icc_profile=profile, **settings)
    how = "a PNG" if see_through else f"a JPEG of quality {QUALITY}"
    said = {
        "media_type": f"image/{kind.lower()}",
        "width": image.width,
        "height": image.height,
        "notes": [f"the {found} was converted to {how}", *notes],
    }
    return said, out.getvalue()


def _open_heic(data: bytes) -> tuple[Image.Image, tuple[str, ...]]:
    import pi_heif  # noqa: PLC0415 - this process alone needs it
    from pi_heif import as_plugin, options  # noqa: PLC0415

    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    pi_heif.register_heif_opener(decode_threads=1)
    image = as_plugin.HeifImageFile(io.BytesIO(data))
    notes = first_of(getattr(image, "n_frames", 1), "picture")
    if image.info.get("bit_depth", 8) > 8:
        notes += (f"{image.info['bit_depth']} bits a channel became 8",)
    nclx = image.info.get("nclx_profile") or {}
    if nclx.get("transfer_characteristics") in _HIGH_DYNAMIC_RANGE:
        notes += ("high dynamic range was not tone-mapped",)
    return image, notes


def _open_avif(data: bytes) -> tuple[Image.Image, tuple[str, ...]]:
    image = Image.open(io.BytesIO(data), formats=("AVIF",))
    return image, first_of(getattr(image, "n_frames", 1), "frame")


def _is_transparent(image: Image.Image) -> bool:
    if not image.has_transparency_data:
        return False
    lowest: Any = image.getchannel(image.getbands()[-1]).getextrema()[0]
    return bool(lowest < 255)
