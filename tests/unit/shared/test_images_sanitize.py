"""What is stored is the same picture and nothing else; Pillow on the original is the reference."""

import hashlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, ImageSequence

from shared.images import ImageLimits, ImageRejectedError, StoredImage, sanitize
from tests.fixtures.images import (
    SECRET,
    encoded,
    exif,
    insert,
    jpeg_segment,
    loaded_gif,
    loaded_jpeg,
    loaded_png,
    loaded_tiff,
    loaded_webp,
    png_chunk,
    profile,
    scene,
)

LIMITS = ImageLimits()


def _pixels(data: bytes) -> tuple[str, np.ndarray]:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.mode, np.asarray(image)


def _assert_same_pixels(stored: StoredImage, original: bytes) -> None:
    mode, pixels = _pixels(stored.data)
    expected_mode, expected = _pixels(original)
    assert mode == expected_mode
    assert np.array_equal(pixels, expected)


def _assert_clean(stored: StoredImage) -> None:
    assert SECRET not in stored.data
    assert b"Exif" not in stored.data
    assert b"eXIf" not in stored.data
    with Image.open(io.BytesIO(stored.data)) as image:
        assert not image.getexif()
        assert "comment" not in image.info
        assert "xmp" not in image.info
        assert getattr(image, "n_frames", 1) == 1


JPEGS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_rows": 1},
    "restart markers, progressive": {"restart_marker_blocks": 2, "progressive": True},
    "no chroma subsampling": {"subsampling": 0, "quality": 100},
    "optimized": {"optimize": True},
    "profile": {"icc_profile": profile()},
}


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS.keys())
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_keeps_its_pixels_and_profile_and_loses_the_rest(
    mode: str, options: dict[str, Any]
) -> None:
    plain = encoded(scene(mode), "JPEG", **options)
    stored = sanitize(loaded_jpeg(scene(mode), **options), LIMITS)
    _assert_clean(stored)
    _assert_same_pixels(stored, plain)
    assert stored.media_type == "image/jpeg"
    # bit for bit: the scan's data is there as it was
    scan = plain[plain.index(b"\xff\xda") :]
    assert scan in stored.data
    with Image.open(io.BytesIO(stored.data)) as image:
        assert image.info.get("icc_profile") == options.get("icc_profile")


def test_a_profile_of_many_segments_is_kept_in_order() -> None:
    large = bytearray(profile() + bytes(200_000))
    large[:4] = len(large).to_bytes(4, "big")
    data = encoded(scene(), "JPEG", icc_profile=bytes(large))
    with Image.open(io.BytesIO(sanitize(data, LIMITS).data)) as image:
        assert image.info["icc_profile"] == bytes(large)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    "bad",
    [b"not a profile" * 20, profile() + SECRET * 20, profile()[:300], b"\0" * (5 * 2**20)],
    ids=["noise", "trailing bytes", "cut", "huge"],
)
def test_an_invalid_profile_is_left_out(kind: str, bad: bytes) -> None:
    data = encoded(scene(), kind, icc_profile=bad)
    stored = sanitize(data, LIMITS)
    assert SECRET not in stored.data
    with Image.open(io.BytesIO(stored.data)) as image:
        assert not image.info.get("icc_profile")
        image.load()


def test_a_thumbnail_in_the_jfif_header_is_left_out() -> None:
    data = encoded(scene(), "JPEG")
    assert data[2:4] == b"\xff\xe0"
    thumbnail = b"JFIF\0\x01\x02\0\0\x01\0\x01\x01\x05" + SECRET + b"\0"
    stored = sanitize(data[:2] + jpeg_segment(0xE0, thumbnail) + data[20:], LIMITS)
    _assert_clean(stored)
    _assert_same_pixels(stored, data)


def test_an_iphones_file_of_several_pictures_keeps_the_first() -> None:
    first, second = scene(), scene().rotate(180)
    data = encoded(first, "MPO", save_all=True, append_images=[second], exif=exif(6))
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "MPO"
    stored = sanitize(data, LIMITS)
    _assert_clean(stored)
    assert (stored.media_type, stored.orientation) == ("image/jpeg", 6)
    _assert_same_pixels(stored, encoded(first, "JPEG"))
    with Image.open(io.BytesIO(stored.data)) as image:
        assert image.format == "JPEG"


PNGS: dict[str, tuple[str, dict[str, Any]]] = {
    "rgb": ("RGB", {}),
    "rgba": ("RGBA", {}),
    "gray": ("L", {}),
    "gray with alpha": ("LA", {}),
    "one bit": ("1", {}),
    "palette": ("P", {}),
    "palette, transparent": ("P", {"transparency": bytes([0, 128, 255])}),
    "palette, 4 bits": ("P", {"bits": 4}),
    "16 bits": ("I;16", {}),
    "gray, transparent shade": ("L", {"transparency": 100}),
    "transparent color": ("RGB", {"transparency": (1, 2, 3)}),
    "profile": ("RGB", {"icc_profile": profile()}),
    "resolution": ("RGB", {"dpi": (72, 72)}),
}


@pytest.mark.parametrize(("mode", "options"), PNGS.values(), ids=PNGS.keys())
def test_a_png_keeps_its_pixels_and_profile_and_loses_the_rest(
    mode: str, options: dict[str, Any]
) -> None:
    image = scene(mode)
    if options.get("bits"):
        image = scene("RGB").quantize(16)
    plain = encoded(image, "PNG", **options)
    stored = sanitize(loaded_png(image, **options), LIMITS)
    _assert_clean(stored)
    _assert_same_pixels(stored, plain)
    assert stored.data == plain  # bit for bit: nothing but pixels was written there
    assert stored.media_type == "image/png"


def test_a_png_keeps_the_chunks_that_colors_need() -> None:
    chunks = [
        png_chunk(b"gAMA", (45455).to_bytes(4, "big")),
        png_chunk(b"cHRM", bytes(32)),
        png_chunk(b"sRGB", b"\0"),
        png_chunk(b"cICP", bytes((12, 13, 0, 1))),
        png_chunk(b"sBIT", bytes((8, 8, 8))),
        png_chunk(b"bKGD", bytes(6)),
    ]
    plain = insert(encoded(scene(), "PNG"), 33, b"".join(chunks))
    assert sanitize(plain, LIMITS).data == plain


def test_an_interlaced_png_is_kept() -> None:
    """5 x 3 gray pixels in Adam7 order, after the table of the PNG specification."""
    picture = np.arange(15, dtype=np.uint8).reshape(3, 5) * 17
    rows = b""
    for left, top, right, down in (
        *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
        *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
    ):
        part = picture[top::down, left::right]
        rows += b"".join(b"\0" + row.tobytes() for row in part if part.size)
    header = struct.pack(">IIBBBBB", 5, 3, 8, 0, 0, 0, 1)
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            png_chunk(b"IHDR", header),
            png_chunk(b"IDAT", zlib.compress(rows)),
            png_chunk(b"IEND", b""),
        ]
    )
    stored = sanitize(data, LIMITS)
    assert stored.data == data
    assert np.array_equal(_pixels(stored.data)[1], picture)


def test_an_animated_png_keeps_its_default_picture() -> None:
    frames = [scene().rotate(90), scene().rotate(180)]
    data = encoded(scene(), "PNG", save_all=True, append_images=frames)
    stored = sanitize(data, LIMITS)
    _assert_clean(stored)
    assert b"acTL" not in stored.data
    assert np.array_equal(_pixels(stored.data)[1], np.asarray(scene()))


def test_what_follows_the_pixels_within_their_chunk_is_cut() -> None:
    plain = encoded(scene(), "PNG")
    start = plain.index(b"IDAT") - 4
    length = int.from_bytes(plain[start : start + 4], "big")
    body = plain[start + 8 : start + 8 + length]
    hidden = plain[:start] + png_chunk(b"IDAT", body + SECRET) + plain[start + 12 + length :]
    assert sanitize(hidden, LIMITS).data == plain


WEBPS: dict[str, tuple[str, dict[str, Any]]] = {
    "lossy": ("RGB", {}),
    "lossy with alpha": ("RGBA", {}),
    "lossless": ("RGB", {"lossless": True}),
    "lossless with alpha": ("RGBA", {"lossless": True}),
    "profile": ("RGB", {"icc_profile": profile()}),
    "profile and alpha": ("RGBA", {"icc_profile": profile()}),
}


@pytest.mark.parametrize(("mode", "options"), WEBPS.values(), ids=WEBPS.keys())
def test_a_webp_keeps_its_pixels_and_profile_and_loses_the_rest(
    mode: str, options: dict[str, Any]
) -> None:
    plain = encoded(scene(mode), "WEBP", **options)
    stored = sanitize(loaded_webp(scene(mode), orientation=6, **options), LIMITS)
    _assert_clean(stored)
    _assert_same_pixels(stored, plain)
    assert (stored.media_type, stored.orientation) == ("image/webp", 6)
    assert (stored.width, stored.height) == (45, 67)
    with Image.open(io.BytesIO(stored.data)) as image:
        assert image.info.get("icc_profile") == options.get("icc_profile")
    # bit for bit
    position = 12
    while position < len(plain):
        length = int.from_bytes(plain[position + 4 : position + 8], "little")
        if plain[position : position + 4] in (b"VP8 ", b"VP8L", b"ALPH", b"ICCP"):
            assert plain[position : position + 8 + length] in stored.data
        position += 8 + length + length % 2


def test_a_plain_webp_stays_as_it_is() -> None:
    data = encoded(scene(), "WEBP")
    assert sanitize(data, LIMITS).data == data


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_animated_webp_becomes_its_first_frame(mode: str) -> None:
    frames = [scene(mode).rotate(90)]
    data = loaded_webp(
        scene(mode),
        orientation=8,
        save_all=True,
        append_images=frames,
        lossless=True,
        icc_profile=profile(),
    )
    stored = sanitize(data, LIMITS)
    _assert_clean(stored)
    assert (stored.media_type, stored.orientation) == ("image/png", 8)
    with Image.open(io.BytesIO(data)) as image:
        first = np.asarray(next(ImageSequence.Iterator(image)).convert("RGBA"))
    with Image.open(io.BytesIO(stored.data)) as image:
        assert np.array_equal(np.asarray(image.convert("RGBA")), first)
    with Image.open(io.BytesIO(stored.data)) as image:
        assert image.info["icc_profile"] == profile()


def test_a_gif_becomes_its_first_frame() -> None:
    data = loaded_gif(scene())
    stored = sanitize(data, LIMITS)
    _assert_clean(stored)
    assert (stored.media_type, stored.width, stored.height) == ("image/png", 67, 45)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB"))
    with Image.open(io.BytesIO(stored.data)) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), expected)


@pytest.mark.parametrize("mode", ["P", "L"])
def test_a_gif_keeps_its_transparency(mode: str) -> None:
    data = encoded(scene(mode), "GIF", transparency=60)
    stored = sanitize(data, LIMITS)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGBA"))
    assert (expected[..., 3] == 0).any()
    with Image.open(io.BytesIO(stored.data)) as image:
        assert np.array_equal(np.asarray(image.convert("RGBA")), expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_a_bmp_becomes_a_png(mode: str) -> None:
    data = encoded(scene(mode), "BMP")
    stored = sanitize(data + SECRET, LIMITS)
    _assert_clean(stored)
    assert stored.media_type == "image/png"
    _assert_same_pixels(stored, data)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
def test_a_tiff_becomes_a_png(mode: str, compression: str | None) -> None:
    data = loaded_tiff(scene(mode), compression=compression)
    stored = sanitize(data, LIMITS)
    _assert_clean(stored)
    assert stored.media_type == "image/png"
    _assert_same_pixels(stored, data)


def test_a_tiff_keeps_its_profile_and_first_page() -> None:
    options = {"save_all": True, "append_images": [scene().rotate(180)]}
    stored = sanitize(loaded_tiff(scene(), icc_profile=profile(), **options), LIMITS)
    _assert_clean(stored)
    with Image.open(io.BytesIO(stored.data)) as image:
        assert image.info["icc_profile"] == profile()
        assert np.array_equal(np.asarray(image), np.asarray(scene()))


def test_a_jpeg_within_a_tiff_is_read() -> None:
    data = encoded(scene(), "TIFF", compression="jpeg")
    _assert_same_pixels(sanitize(data, LIMITS), data)


def test_a_tiff_for_the_printing_press_becomes_rgb() -> None:
    data = encoded(scene("CMYK"), "TIFF")
    stored = sanitize(data, LIMITS)
    mode, pixels = _pixels(stored.data)
    assert mode == "RGB"
    assert np.array_equal(pixels, np.asarray(scene("CMYK").convert("RGB")))


LOADED: dict[str, Callable[..., bytes]] = {
    "JPEG": loaded_jpeg,
    "PNG": loaded_png,
    "WEBP": loaded_webp,
    "TIFF": loaded_tiff,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", LOADED)
def test_width_and_height_are_those_that_a_viewer_sees(kind: str, orientation: int) -> None:
    data = LOADED[kind](scene(), orientation=orientation)
    stored = sanitize(data, LIMITS)
    plain = encoded(scene(), kind, exif=exif(orientation))
    with Image.open(io.BytesIO(plain)) as image:
        seen = ImageOps.exif_transpose(image).size
    assert (stored.width, stored.height) == seen
    assert stored.orientation == (1 if kind == "TIFF" else orientation)


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_does_not_exist_is_none(orientation: int) -> None:
    assert sanitize(loaded_jpeg(scene(), orientation=orientation), LIMITS).orientation == 1


def test_the_hash_is_that_of_the_stored_bytes() -> None:
    stored = sanitize(loaded_jpeg(scene()), LIMITS)
    assert stored.sha256 == hashlib.sha256(stored.data).hexdigest()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_what_was_stored_is_stored_again_unchanged(kind: str) -> None:
    once = sanitize(LOADED[kind](scene(), icc_profile=profile()), LIMITS)
    assert sanitize(once.data, LIMITS).data == once.data


@pytest.mark.parametrize(
    ("data", "limits", "slug"),
    [
        (b"", LIMITS, "empty-image"),
        (b"%PDF-1.7 not a picture", LIMITS, "unsupported-image-type"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", LIMITS, "unsupported-image-type"),
        (b"\0", LIMITS, "unsupported-image-type"),
        (encoded(scene(), "PNG"), ImageLimits(max_bytes=1000), "image-too-large"),
        (encoded(scene(), "PNG"), ImageLimits(max_pixels=67 * 45 - 1), "image-too-many-pixels"),
        (encoded(scene(), "JPEG"), ImageLimits(max_side=66), "image-too-many-pixels"),
        (encoded(scene(), "WEBP"), ImageLimits(max_side=66), "image-too-many-pixels"),
        (encoded(scene(), "GIF"), ImageLimits(max_side=66), "image-too-many-pixels"),
        (encoded(scene(), "TIFF"), ImageLimits(max_side=66), "image-too-many-pixels"),
        (encoded(scene(), "BMP"), ImageLimits(max_side=66), "image-too-many-pixels"),
    ],
)
def test_a_refusal_says_why(data: bytes, limits: ImageLimits, slug: str) -> None:
    with pytest.raises(ImageRejectedError) as refusal:
        sanitize(data, limits)
    assert refusal.value.slug == slug
    assert refusal.value.detail.endswith(".")


def test_caps_are_inclusive() -> None:
    data = encoded(scene(), "PNG")
    limits = ImageLimits(max_bytes=len(data), max_pixels=67 * 45, max_side=67)
    assert sanitize(data, limits).width == 67


@pytest.mark.shared_data
def test_real_photos_keep_their_pixels(shared_data: Path) -> None:
    photos = sorted((shared_data / "mask_detection/test").rglob("*.png"))[:5]
    photos += sorted((shared_data / "mask_classification").rglob("*.jpg"))[:20]
    assert photos
    for photo in photos:
        data = photo.read_bytes()
        _assert_same_pixels(sanitize(data, LIMITS), data)
