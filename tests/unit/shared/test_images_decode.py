"""Pixels as a viewer sees them, compared with Pillow, NumPy, OpenCV and LittleCMS by hand."""

import io
import struct
import subprocess
import sys
import threading
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from shared.images import (
    ImageLimits,
    ImageRejectedError,
    decode_rgb,
    limit_concurrent_decodes,
    sanitize,
)
from shared.images.decode import decoding
from tests.fixtures.images import encoded, exif, png_chunk, profile, scene

LIMITS = ImageLimits()


def _through(data: bytes, **options: Any) -> NDArray[np.uint8]:
    """Decode what is stored of an upload, as a worker does."""
    stored = sanitize(data, LIMITS)
    pixels = decode_rgb(stored.data, stored.orientation, **options)
    assert pixels.dtype == np.uint8
    if not options:
        assert pixels.shape == (stored.height, stored.width, 3)
    return pixels


def _off_by(pixels: NDArray[np.uint8], expected: Any) -> int:
    return int(np.abs(pixels.astype(int) - np.asarray(expected).astype(int)).max())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_is_upright(kind: str, orientation: int) -> None:
    data = encoded(scene(), kind, exif=exif(orientation))
    with Image.open(io.BytesIO(data)) as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    assert np.array_equal(_through(data), np.asarray(expected))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P"])
def test_every_kind_of_picture_becomes_rgb(kind: str, mode: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    image = scene(mode)
    if kind == "GIF" and mode == "RGB":
        image = image.quantize(256)
    pixels = _through(encoded(image, kind, **options))
    assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_of_gray_are_scaled_not_clipped(kind: str) -> None:
    shades = np.linspace(0, 65535, 67 * 45).astype(np.uint16).reshape(45, 67)
    pixels = _through(encoded(Image.fromarray(shades), kind))
    assert np.array_equal(pixels[..., 0], np.round(shades / 257.0))
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_sixteen_bits_of_dark_gray_stay_dark() -> None:
    shades = np.full((4, 4), 200, np.uint16)
    assert _through(encoded(Image.fromarray(shades), "PNG")).max() == 1


def test_sixteen_bits_of_gray_for_big_endian_machines() -> None:
    shades = np.linspace(0, 65535, 64).astype(">u2").reshape(8, 8)
    data = encoded(Image.frombytes("I;16B", (8, 8), shades.tobytes()), "TIFF")
    assert np.array_equal(_through(data)[..., 1], np.round(shades / 257.0))


@pytest.mark.parametrize("extension", [".png", ".tiff"])
def test_sixteen_bits_of_color_are_scaled_not_clipped(extension: str) -> None:
    cv2 = pytest.importorskip("cv2")
    colors = np.random.default_rng(1).integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    written, data = cv2.imencode(extension, colors[..., ::-1])
    assert written
    assert _off_by(_through(data.tobytes()), colors / 257.0) <= 1


def test_sixteen_bits_of_color_and_alpha() -> None:
    cv2 = pytest.importorskip("cv2")
    colors = np.random.default_rng(1).integers(0, 65536, (20, 30, 4)).astype(np.uint16)
    colors[..., 3] = np.where(colors[..., 3] > 30000, 65535, 0)
    written, data = cv2.imencode(".png", colors[..., [2, 1, 0, 3]])
    assert written
    visible = colors[..., 3:] > 0
    assert _off_by(_through(data.tobytes()), np.where(visible, colors[..., :3] / 257.0, 255)) <= 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 100.0, 255.0]], np.float32), [0, 100, 255]),
        (np.array([[0.0, 257.0, 65535.0]], np.float32), [0, 1, 255]),
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[0, 32768, 65535]], np.int32), [0, 128, 255]),
        (np.array([[-5, 500_000, 1_000_000]], np.int32), [0, 128, 255]),
        (np.array([[0, 0, 0]], np.int32), [0, 0, 0]),
    ],
)
def test_numbers_of_no_agreed_range_are_scaled_to_what_holds_them(
    values: NDArray[Any], expected: list[int]
) -> None:
    pixels = _through(encoded(Image.fromarray(values), "TIFF"))
    assert _off_by(pixels[0, :, 0], expected) <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_laid_on_white(kind: str, mode: str) -> None:
    image = scene(mode)
    data = encoded(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    colors = np.asarray(image.convert("RGBA")).astype(float)
    alpha = colors[..., 3:] / 255
    assert _off_by(_through(data), colors[..., :3] * alpha + 255 * (1 - alpha)) <= 1


def test_a_palette_with_transparency_is_laid_on_white() -> None:
    image = scene("RGB").quantize(8)
    alpha = bytes(range(0, 256, 36))
    pixels = _through(encoded(image, "PNG", transparency=alpha))
    share = np.frombuffer(alpha, np.uint8)[np.asarray(image)][..., None] / 255
    expected = np.asarray(image.convert("RGB")) * share + 255 * (1 - share)
    assert _off_by(pixels, expected) <= 1


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_a_transparent_shade_is_white(mode: str) -> None:
    image = scene(mode)
    key = image.getpixel((5, 7))
    pixels = _through(encoded(image, "PNG", transparency=key))
    plain = _through(encoded(image, "PNG"))
    values = np.asarray(image)
    hidden = (values == np.asarray(key)).reshape(45, 67, -1).all(-1)
    assert hidden.any()
    assert np.array_equal(pixels, np.where(hidden[..., None], 255, plain))


def test_a_transparent_color_of_sixteen_bits() -> None:
    colors = np.zeros((2, 2, 3), ">u2")
    colors[0, 0] = (0x1234, 0x5678, 0x9ABC)
    rows = b"".join(b"\0" + row.tobytes() for row in colors)
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)),
            png_chunk(b"tRNS", colors[0, 0].tobytes()),
            png_chunk(b"IDAT", zlib.compress(rows)),
            png_chunk(b"IEND", b""),
        ]
    )
    pixels = _through(data)
    assert pixels[1].max() == 0  # whatever becomes of the transparent one, the others stay


def test_a_picture_for_the_printing_press_as_adobe_writes_it() -> None:
    """Adobe stores inverted inks: full cyan is a 0, and must come out as cyan."""
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    pixels = _through(encoded(image, "JPEG", quality=95))
    assert _off_by(pixels, np.broadcast_to([0, 255, 255], (16, 16, 3))) <= 3
    pixels = _through(encoded(scene("CMYK"), "JPEG", quality=95, subsampling=0))
    assert _off_by(pixels, scene("CMYK").convert("RGB")) <= 25


def _swapped_profile() -> bytes:
    """sRGB with red and blue exchanged: a profile whose effect cannot be missed."""
    whole = profile()
    count = int.from_bytes(whole[128:132], "big")
    names = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}
    out = bytearray(whole)
    for index in range(count):
        at = 132 + 12 * index
        out[at : at + 4] = names.get(whole[at : at + 4], whole[at : at + 4])
    return bytes(out)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_colors_are_converted_by_the_profile(kind: str) -> None:
    data = encoded(scene(), kind, icc_profile=_swapped_profile())
    with Image.open(io.BytesIO(data)) as image:
        plain = np.asarray(image.convert("RGB"))
    pixels = _through(data)
    assert _off_by(pixels, plain[..., ::-1]) <= 2
    assert _off_by(plain, plain[..., ::-1]) > 100


def test_colors_under_transparency_are_converted_by_the_profile() -> None:
    image = scene("RGB")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    pixels = _through(encoded(image, "PNG", icc_profile=_swapped_profile()))
    assert _off_by(pixels, _through(encoded(image, "PNG"))[..., ::-1]) <= 2


def test_a_gray_profile_is_used() -> None:
    """Gray of gamma 1 becomes lighter in sRGB, by its definition (IEC 61966-2-1).

    The deepest shades are left out: LittleCMS tabulates the steep end of the curve.
    """
    linear = ImageCms.ImageCmsProfile(io.BytesIO(_linear_gray_profile()))
    assert linear.profile.xcolor_space.strip() == "GRAY"
    shades = Image.linear_gradient("L")
    light = np.asarray(shades) / 255.0
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    for kind, image in (
        ("PNG", shades),
        ("PNG", Image.merge("LA", [shades, Image.new("L", (256, 256), 255)])),
    ):
        pixels = _through(encoded(image, kind, icc_profile=linear.tobytes()))
        assert _off_by(pixels[8:, :, 0], expected[8:]) <= 2
    wide = Image.fromarray(np.asarray(shades).astype(np.uint16) * 257)
    pixels = _through(encoded(wide, "PNG", icc_profile=linear.tobytes()))
    assert _off_by(pixels[8:, :, 0], expected[8:]) <= 2


def _linear_gray_profile() -> bytes:
    white = b"XYZ \0\0\0\0" + struct.pack(">iii", 63190, 65536, 54061)  # D50 in s15Fixed16
    curve = b"curv\0\0\0\0" + struct.pack(">I", 0)  # no points: the identity
    tags = [(b"wtpt", white), (b"kTRC", curve)]
    table, body, offset = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags:
        table += name + struct.pack(">II", offset + len(body), len(content))
        body += content
    size = struct.pack(">I", 128 + len(table) + len(body))
    head = size + bytes(4) + b"\x04\x20\0\0mntrGRAYXYZ " + bytes(12) + b"acsp"
    head = head.ljust(68, b"\0") + struct.pack(">iii", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + body


def test_a_profile_of_other_colors_than_the_picture_is_ignored() -> None:
    data = encoded(scene("L"), "PNG", icc_profile=profile())  # an RGB profile on gray
    assert np.array_equal(_through(data), np.asarray(scene("L").convert("RGB")))


def test_a_broken_profile_is_ignored() -> None:
    broken = bytearray(profile())
    broken[128:] = b"\xff" * (len(broken) - 128)
    data = encoded(scene(), "PNG", icc_profile=bytes(broken))
    assert np.array_equal(_through(data), np.asarray(scene()))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_photo_is_decoded_at_a_reduced_size(kind: str, orientation: int) -> None:
    image = scene("RGB", 67, 45).resize((1340, 900), Image.Resampling.BICUBIC)
    data = encoded(image, kind, exif=exif(orientation))
    pixels = _through(data, max_side=300)
    height, width = (201, 300) if orientation == 1 else (300, 201)
    assert abs(pixels.shape[0] - height) <= 1
    assert abs(pixels.shape[1] - width) <= 1
    upright = image if orientation == 1 else image.transpose(Image.Transpose.ROTATE_270)
    expected = upright.resize(pixels.shape[1::-1], Image.Resampling.BOX)
    assert np.abs(pixels.astype(int) - np.asarray(expected).astype(int)).mean() < 3


def test_a_small_photo_is_never_enlarged() -> None:
    assert _through(encoded(scene(), "JPEG"), max_side=1000).shape == (45, 67, 3)


def test_decoding_refuses_what_is_over_the_limits_or_damaged() -> None:
    data = encoded(scene(), "PNG")
    with pytest.raises(ImageRejectedError) as refusal:
        decode_rgb(data, limits=ImageLimits(max_pixels=3000))
    assert refusal.value.slug == "image-too-many-pixels"
    for damaged in (b"", b"nothing", data[:-200]):
        with pytest.raises(ImageRejectedError) as refusal:
            decode_rgb(damaged)
        assert refusal.value.slug == "corrupt-image"


def test_no_more_images_are_decoded_at_once_than_allowed() -> None:
    limit_concurrent_decodes(2)
    inside, most, lock = 0, 0, threading.Lock()
    full = threading.Barrier(2)

    def decode() -> None:
        nonlocal inside, most
        with decoding():
            with lock:
                inside += 1
                most = max(most, inside)
            full.wait(timeout=30)  # two must be let in together, or nobody goes on
            with lock:
                inside -= 1

    threads = [threading.Thread(target=decode) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2


def test_a_refusal_gives_its_place_back() -> None:
    limit_concurrent_decodes(1)
    try:
        for _ in range(3):
            with pytest.raises(ImageRejectedError):
                sanitize(b"\xff\xd8\xff" + b"x" * 50, LIMITS)
        assert sanitize(encoded(scene(), "PNG"), LIMITS).width == 67
    finally:
        limit_concurrent_decodes(2)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_the_api_needs_no_numpy_to_take_an_image(mode: str) -> None:
    """The API's container has none."""
    values = np.full((4, 4), 7, {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])
    data = encoded(Image.fromarray(values), "TIFF")
    script = (
        "import sys; sys.modules['numpy'] = None\n"
        "from shared.images import ImageLimits, sanitize\n"
        "print(sanitize(sys.stdin.buffer.read(), ImageLimits()).width)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], input=data, capture_output=True, check=False
    )
    assert run.stdout == b"4\n", run.stderr.decode()


def test_a_lack_of_memory_is_not_called_a_damaged_image() -> None:
    with pytest.raises(MemoryError), decoding():
        raise MemoryError
    with pytest.raises(ImageRejectedError), decoding():
        raise SyntaxError("broken PNG file")
