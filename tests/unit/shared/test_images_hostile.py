"""Uploads made to break a decoder, to drown it, or to carry something past it."""

import io
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pillow_heif
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from shared.images import ImageLimits, ImageRejectedError, StoredImage, decode_rgb, sanitize
from shared.images.cost import decoding_cost
from shared.images.gif import keep_first_frame
from shared.images.jpeg import strip_jpeg
from shared.images.png import strip_png
from shared.images.tiff import keep_picture
from shared.images.tiff_tags import exif_orientation
from shared.images.webp import strip_webp
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
    png_claiming,
    profile,
    riff_chunk,
    scene,
    squeezed_zeros,
    tiff_claiming,
)

pillow_heif.register_heif_opener()
LIMITS = ImageLimits()
SMALL = ImageLimits(max_pixels=100_000)  # what mutated headers may ask for is quick to decode
# Pillow warns of damaged metadata; a warning is an error in these tests and none in the service.
pytestmark = pytest.mark.filterwarnings("ignore")


def _slug(data: bytes, limits: ImageLimits = LIMITS) -> str:
    with pytest.raises(ImageRejectedError) as refusal:
        sanitize(data, limits)
    return refusal.value.slug


def _pixels(data: bytes) -> NDArray[Any]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def _is_refused(data: bytes, whole: bytes) -> bool:
    """Whether a cut file is refused; one that is not has all pixels of the whole one."""
    slug = ""
    try:
        stored = sanitize(data, LIMITS)
    except ImageRejectedError as refusal:
        slug = refusal.slug
    if slug:
        assert slug in ("corrupt-image", "unsupported-image-type")
        return True
    assert np.array_equal(_pixels(stored.data), _pixels(sanitize(whole, LIMITS).data))
    return False


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_truncated_file_is_refused_or_has_all_its_pixels_wherever_it_ends(kind: str) -> None:
    options = {"compression": "tiff_lzw"} if kind == "TIFF" else {}
    data = encoded(scene("P" if kind == "GIF" else "RGB", width=64), kind, **options)
    for end in [1, 2, 3, 5, 8, 11, 13, 20, *range(30, len(data) - 40, 97), len(data) - 40]:
        assert _is_refused(data[:end], data), end
    for end in range(len(data) - 39, len(data)):
        _is_refused(data[:end], data)


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"restart_marker_blocks": 2}],
    ids=str,
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_truncated_jpeg_is_refused_or_has_all_its_pixels(
    mode: str, options: dict[str, bool | int]
) -> None:
    data = encoded(scene(mode), "JPEG", **options)
    for end in range(4, len(data) - 20, 31):
        assert _is_refused(data[:end], data), end
    for end in range(len(data) - 19, len(data) - 2):
        _is_refused(data[:end], data)
    for end in (len(data) - 2, len(data) - 1):
        assert not _is_refused(data[:end], data)


def _half(kind: str) -> bytes:
    options: dict[str, Any] = {"GIF": {}, "TIFF": {"compression": "raw"}}.get(kind, {})
    data = encoded(_noise(), kind, **options)
    return data[: len(data) // 2]


def _noise() -> Image.Image:
    noise = np.random.default_rng(0).integers(60, 250, (200, 160, 3)).astype(np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "HEIF", "AVIF"])
def test_the_refusal_of_a_cut_file_says_how_much_is_missing(kind: str) -> None:
    with pytest.raises(ImageRejectedError, match="is cut off") as refusal:
        sanitize(_half(kind), LIMITS)
    percent = re.search(r"about (\d+) % of its pixels", refusal.value.detail)
    assert percent is not None
    assert 40 <= int(percent[1]) <= 60


@pytest.mark.parametrize("how", ["filled with zeros", "with an end marker", "filled with 255"])
def test_a_jpeg_whose_download_broke_off_is_refused(how: str) -> None:
    data = encoded(_noise(), "JPEG", subsampling=0)
    cut = data[: len(data) // 2]
    rest = {
        "filled with zeros": bytes(len(data) - len(cut)),
        "with an end marker": b"\xff\xd9",
        "filled with 255": b"\xff" * 100,
    }
    with pytest.raises(ImageRejectedError, match=r"about 5\d % of its pixels are missing"):
        sanitize(cut + rest[how], LIMITS)


def test_a_flat_jpeg_is_whole() -> None:
    """Its end looks like what a decoder fills up."""
    for mode in ("RGB", "L", "CMYK"):
        data = encoded(Image.new(mode, (300, 200)), "JPEG")
        assert not _is_refused(data, data)
        assert not _is_refused(data[:-2], data)


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE"])
def test_a_wrong_checksum_of_what_cannot_be_checked_otherwise_is_refused(kind: bytes) -> None:
    assert _slug(_with_a_wrong_checksum(kind)) == "corrupt-image"


@pytest.mark.parametrize("kind", [b"IDAT", b"tEXt", b"IEND"])
def test_a_wrong_checksum_of_what_is_thrown_away_or_checked_otherwise_costs_nothing(
    kind: bytes,
) -> None:
    data = _with_a_wrong_checksum(kind)
    assert np.array_equal(_pixels(sanitize(data, LIMITS).data), np.asarray(scene("P")))


def test_a_wrong_checksum_of_a_profile_costs_the_profile_and_is_said() -> None:
    data = bytearray(encoded(scene(), "PNG", icc_profile=profile()))
    data[data.index(b"iCCP") + 30] ^= 1
    stored = sanitize(bytes(data), LIMITS)
    assert b"iCCP" not in stored.data
    assert stored.notes == ("its color profile is damaged and was left out",)


def _with_a_wrong_checksum(kind: bytes) -> bytes:
    data = bytearray(insert(encoded(scene("P"), "PNG"), 33, png_chunk(b"tEXt", b"a\0b")))
    start = data.index(kind) - 4
    length = int.from_bytes(data[start : start + 4], "big")
    data[start + 8 + length] ^= 1
    return bytes(data)


def test_too_few_pixels_for_their_header_are_refused() -> None:
    row = 1 + 3 * 10
    assert sanitize(png_claiming(10, 5, squeezed_zeros(5 * row)), LIMITS).width == 10
    for size in (4 * row, 5 * row - 1):
        assert _slug(png_claiming(10, 5, squeezed_zeros(size))) == "corrupt-image"


def test_what_inflates_beyond_the_last_pixel_is_thrown_away() -> None:
    row = 1 + 3 * 10
    for extra in (1, 95_000 * row):
        stored = sanitize(png_claiming(10, 5, squeezed_zeros(5 * row + extra)), LIMITS)
        chunk = stored.data.index(b"IDAT")
        length = int.from_bytes(stored.data[chunk - 4 : chunk], "big")
        assert zlib.decompress(stored.data[chunk + 4 : chunk + 4 + length]) == bytes(5 * row)


def test_a_jpeg_of_other_processes_is_told_apart() -> None:
    data = bytearray(encoded(scene(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    for process in (0xC3, 0xC5, 0xC9, 0xCF):
        data[frame + 1] = process
        assert _slug(bytes(data)) == "unsupported-image-type"


# Bombs: small files that ask for much memory or time. Each is refused in a process of its own,
# whose peak is measured.


def _png_bomb() -> bytes:
    return png_claiming(20_000, 20_000, squeezed_zeros(60_001 * 20_000))


def _png_text_bomb() -> bytes:
    texts = png_chunk(b"zTXt", b"a\0\0" + squeezed_zeros(300 * 2**20))
    texts += png_chunk(b"iCCP", b"a\0\0" + squeezed_zeros(300 * 2**20))
    return insert(encoded(scene(), "PNG"), 33, texts)


def _png_overfull() -> bytes:
    return png_claiming(10, 10, squeezed_zeros(400 * 2**20))


def _gif_bomb() -> bytes:
    data = bytearray(encoded(scene("P"), "GIF"))
    data[6:10] = struct.pack("<HH", 65535, 65535)
    return bytes(data)


def _gif_frame_bomb() -> bytes:
    data = bytearray(encoded(scene("P"), "GIF"))
    frame = data.index(b"\x2c\0\0\0\0")
    data[frame + 5 : frame + 9] = struct.pack("<HH", 65535, 65535)
    return bytes(data)


def _webp_bomb() -> bytes:
    data = encoded(scene(), "WEBP", save_all=True, append_images=[scene().rotate(180)])
    side = (16_383 - 1).to_bytes(3, "little")
    start = data.index(b"VP8X")
    return data[: start + 12] + side + side + data[start + 18 :]


def _tiff_bomb() -> bytes:
    return tiff_claiming(_tiff_tags(30_000, 30_000))


def _tiff_tags(width: int, height: int) -> dict[int, tuple[int, int, int]]:
    """Gray pixels in one strip that begins at the directory."""
    tags = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    return tags | {273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, width * height)}


def _tiff_tile_bomb() -> bytes:
    tile = squeezed_zeros(200 * 2**20)
    tags = {256: (4, 1, 16), 257: (4, 1, 16), 258: (3, 1, 8), 259: (3, 1, 8), 262: (3, 1, 1)}
    tags |= {277: (3, 1, 1), 322: (4, 1, 16_384), 323: (4, 1, 12_800), 325: (4, 1, len(tile))}
    tags |= {324: (4, 1, 8 + 2 + 10 * 12 + 4)}
    return tiff_claiming(tags, tile)


def _tiff_tag_bomb() -> bytes:
    """Thousands of tags that all point to the same megabyte."""
    tags = dict.fromkeys(range(40_000, 45_000), (7, 2**20, 8))
    return tiff_claiming(tags | _tiff_tags(16, 16), bytes(2**20))


def _tiff_profile_bomb() -> bytes:
    """The same with tags that pixels may need."""
    tags = dict.fromkeys((320, 347, 532, 34675), (7, 2**20, 8))
    return tiff_claiming(tags | _tiff_tags(16, 16), bytes(2**20))


def _exif_bomb() -> bytes:
    tags = dict.fromkeys(range(40_000, 45_000), (7, 2**20, 8))
    body = tiff_claiming(tags, bytes(2**20))
    data = encoded(scene(), "WEBP", save_all=True, append_images=[scene().rotate(9)], exif=exif())
    start = data.index(b"EXIF")
    data = data[:start] + riff_chunk(b"EXIF", body)
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "PNG of 20,000 x 20,000": (_png_bomb, "image-too-many-pixels"),
    "PNG with texts that inflate": (_png_text_bomb, "accepted"),
    "PNG with more pixels than it says": (_png_overfull, "accepted"),
    "GIF with a large screen": (_gif_bomb, "image-too-many-pixels"),
    "GIF with a large frame": (_gif_frame_bomb, "image-too-many-pixels"),
    "animated WebP with a large canvas": (_webp_bomb, "image-too-many-pixels"),
    "animated WebP with absurd EXIF": (_exif_bomb, "accepted"),
    "TIFF of 30,000 x 30,000": (_tiff_bomb, "image-too-many-pixels"),
    "TIFF with a large tile": (_tiff_tile_bomb, "image-too-many-pixels"),
    "TIFF with overlapping tags": (_tiff_tag_bomb, "accepted"),
    "TIFF with overlapping needed tags": (_tiff_profile_bomb, "corrupt-image"),
}
_MEASURE = """
import sys
from shared.images import ImageLimits, ImageRejectedError, sanitize
from tests.memory import peak_kibibytes
data = sys.stdin.buffer.read()
before = peak_kibibytes()
try:
    sanitize(data, ImageLimits())
    slug = "accepted"
except ImageRejectedError as refusal:
    slug = refusal.slug
print(slug, peak_kibibytes() - before)
"""


@pytest.mark.parametrize(("build", "expected"), BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_takes_no_memory(build: Callable[[], bytes], expected: str) -> None:
    bomb = build()
    assert len(bomb) < LIMITS.max_bytes
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _MEASURE],
        input=bomb,
        capture_output=True,
        check=True,
    )
    slug, kibibytes = run.stdout.split()
    assert slug.decode() == expected
    assert int(kibibytes) < 40 * 1024


def test_absurdly_many_parts_are_refused() -> None:
    jpeg = encoded(scene(), "JPEG", progressive=True)
    assert _slug(insert(jpeg, 2, jpeg_segment(0xFE, b"") * 6000)) == "corrupt-image"
    last_scan = jpeg.rindex(b"\xff\xda")
    assert _slug(jpeg[:-2] + jpeg[last_scan:-2] * 200 + jpeg[-2:]) == "corrupt-image"
    png = encoded(scene(), "PNG")
    assert _slug(insert(png, 33, png_chunk(b"tEXt", b"") * 110_000)) == "corrupt-image"
    webp = encoded(scene(), "WEBP") + riff_chunk(b"JUNK", b"") * 11_000
    webp = webp[:4] + struct.pack("<I", len(webp) - 8) + webp[8:]
    assert _slug(webp) == "corrupt-image"
    gif = encoded(scene("P"), "GIF")
    frame = gif.index(b"\x2c\0\0\0\0")
    assert _slug(gif[:frame] + b"\x21\xfe\0" * 600_000 + gif[frame:]) == "corrupt-image"
    assert _slug(gif[:frame] + b"\x21\xfe" + b"\1a" * 600_000 + b"\0" + gif[frame:]) == (
        "corrupt-image"
    )


def test_a_tiff_of_endless_pages_is_its_first() -> None:
    data = bytearray(encoded(scene(), "TIFF"))
    start = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[start : start + 2], "little")
    following = start + 2 + 12 * count
    data[following : following + 4] = struct.pack("<I", start)  # the next page is this one
    assert sanitize(bytes(data), LIMITS).width == 67


def test_a_compression_that_is_not_read_is_told_apart() -> None:
    data = encoded(scene(), "TIFF", compression="lzma")
    assert _slug(data) == "unsupported-image-type"


# Mutations: nothing but a refusal comes out, and never what was planted. The secret is in every
# metadata field, thumbnail and trailer of these files.

LOADED: dict[str, bytes] = {
    "jpeg": loaded_jpeg(scene(), orientation=6, icc_profile=profile()),
    "progressive jpeg": loaded_jpeg(scene("CMYK"), progressive=True),
    "jpeg with restarts": loaded_jpeg(scene("L"), restart_marker_blocks=3),
    "png": loaded_png(scene(), icc_profile=profile()),
    "palette png": loaded_png(scene("P"), transparency=b"\0\1\2"),
    "webp": loaded_webp(scene("RGBA"), icc_profile=profile()),
    "lossless webp": loaded_webp(scene(), lossless=True),
    "animated webp": loaded_webp(scene(), save_all=True, append_images=[scene().rotate(90)]),
    "gif": loaded_gif(scene()),
    "tiff": loaded_tiff(scene()),
    "lzw tiff": loaded_tiff(scene("RGBA"), compression="tiff_lzw"),
    "bmp": encoded(scene(), "BMP") + SECRET,
}

_edit = st.tuples(
    st.sampled_from(["set", "flip", "cut", "copy", "insert", "swap chunk"]),
    st.floats(0, 1),
    st.floats(0, 1),
    st.binary(min_size=1, max_size=8),
)


def _edited(data: bytes, edits: list[tuple[str, float, float, bytes]]) -> bytes:
    for how, first, second, content in edits:
        if not data:
            break
        # most of the structure is at the beginning: go there more often
        start, length = int(first**2 * (len(data) - 1)), int(second * 40) + 1
        if how == "set":
            data = data[:start] + content + data[start + len(content) :]
        elif how == "flip":
            data = data[:start] + bytes((data[start] ^ 1 << length % 8,)) + data[start + 1 :]
        elif how == "cut":
            data = data[:start] + data[start + length :]
        elif how == "copy":
            data = insert(data, start, data[start : start + length])
        elif how == "insert":
            data = insert(data, start, content)
        else:
            data = data[: max(start, 12)]
    return data


_SLUGS = {"empty-image", "unsupported-image-type", "image-too-large", "image-too-many-pixels"}


def _sanitized(data: bytes, limits: ImageLimits = SMALL) -> StoredImage | None:
    try:
        return sanitize(data, limits)
    except ImageRejectedError as refusal:
        slug = refusal.slug
    assert slug in _SLUGS | {"corrupt-image"}
    return None


@pytest.mark.parametrize("name", LOADED)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(edits=st.lists(_edit, min_size=1, max_size=4))
def test_a_mutated_file_is_refused_or_stored_whole(
    name: str, edits: list[tuple[str, float, float, bytes]]
) -> None:
    stored = _sanitized(_edited(LOADED[name], edits))
    if stored is None:
        return
    with Image.open(io.BytesIO(stored.data)) as image:
        image.load()
    pixels = decode_rgb(stored.data, stored.orientation, limits=SMALL)
    assert pixels.shape == (stored.height, stored.width, 3)


@pytest.mark.parametrize("name", LOADED)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1))
def test_what_was_planted_is_never_stored(name: str, seed: int) -> None:
    """Damage outside of compressed pixels must not make metadata pass for something kept."""
    data = bytearray(LOADED[name])
    places = [at for at in range(12, len(data)) if bytes(data[at : at + 4]) in _NAMES]
    for shift in range(1 + seed % 3):
        at = places[(seed >> 4 * shift) % len(places)] if places else 12
        data[at - 1 - seed % 4] = seed >> 8 & 0xFF
    stored = _sanitized(bytes(data))
    assert stored is None or SECRET not in stored.data


_NAMES = {b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"prVt", b"EXIF", b"XMP ", b"Exif", b"http", b"MPF\0"}


@settings(max_examples=300, deadline=None)
@given(
    start=st.sampled_from(
        [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBP", b"GIF89a", b"II*\0", b"BM"]
    ),
    data=st.binary(max_size=200),
)
def test_noise_is_refused(start: bytes, data: bytes) -> None:
    _sanitized(start + data)


WALKERS: list[Callable[[bytes], object]] = [
    strip_jpeg,
    lambda data: strip_png(data, SMALL),
    lambda data: strip_webp(data, SMALL),
    keep_first_frame,
    lambda data: keep_picture(data, SMALL),
]


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(sorted(LOADED)),
    edits=st.lists(_edit, max_size=3),
    walk=st.sampled_from(WALKERS),
)
def test_a_walker_raises_nothing_but_refusals(
    name: str, edits: list[tuple[str, float, float, bytes]], walk: Callable[[bytes], object]
) -> None:
    try:
        walk(_edited(LOADED[name], edits))
    except ImageRejectedError:
        return


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=100), edits=st.lists(_edit, max_size=3))
def test_an_orientation_is_always_one_of_eight(
    data: bytes, edits: list[tuple[str, float, float, bytes]]
) -> None:
    for candidate in (data, b"II*\0" + data, b"Exif\0\0MM\0*" + data, _edited(exif(7), edits)):
        assert 1 <= exif_orientation(candidate) <= 8


# HEIC and AVIF: each is decoded in a process of its own, which takes a while to start.

CONTAINERS = {kind: encoded(_noise().resize((64, 48)), kind) for kind in ("HEIF", "AVIF")}


@pytest.mark.parametrize("kind", CONTAINERS)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(edits=st.lists(_edit, min_size=1, max_size=3))
def test_a_mutated_photo_of_a_phone_is_refused_or_stored_whole(
    kind: str, edits: list[tuple[str, float, float, bytes]]
) -> None:
    stored = _sanitized(_edited(CONTAINERS[kind], edits))
    if stored is not None:
        pixels = decode_rgb(stored.data, stored.orientation, limits=SMALL)
        assert pixels.shape == (stored.height, stored.width, 3)


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from([*sorted(LOADED), *CONTAINERS]), edits=st.lists(_edit, max_size=3))
def test_the_cost_of_whatever_comes_is_a_number(
    name: str, edits: list[tuple[str, float, float, bytes]]
) -> None:
    data = _edited((LOADED | CONTAINERS)[name], edits)
    assert decoding_cost(data) >= len(data)


def _heic_bomb() -> bytes:
    """A bitstream of many more pixels than its container says."""
    data = bytearray(encoded(Image.new("L", (6000, 6000)), "HEIF"))
    size = data.index(b"ispe") + 8
    data[size : size + 8] = struct.pack(">II", 64, 64)
    return bytes(data)


def test_a_bitstream_larger_than_its_container_says_is_bounded() -> None:
    bomb = _heic_bomb()
    assert len(bomb) < 200_000
    stored = _sanitized(bomb, SMALL)
    assert stored is None or stored.width * stored.height <= SMALL.max_pixels
