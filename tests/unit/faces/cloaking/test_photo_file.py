"""Photos that are written as they came."""

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from services.worker.faces.cloaking.photo_file import as_stored, open_photo, upright
from shared.images import ImageLimits, decode_rgb, sanitize

PIXELS = np.random.default_rng(3).integers(0, 256, (48, 64, 3), dtype=np.uint8)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def file_of(image: Image.Image, kind: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def smooth() -> Image.Image:
    yy, xx = np.mgrid[:80, :96]
    return Image.fromarray(np.stack([xx * 2, yy * 3, xx + yy], 2).astype(np.uint8))


def moved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    changed = pixels.copy()
    changed[10:20, 12:24] = np.where(changed[10:20, 12:24] < 128, 5, -5) + changed[10:20, 12:24]
    return changed


LOSSLESS = {
    "rgb": ("PNG", Image.fromarray(PIXELS)),
    "gray": ("PNG", Image.fromarray(PIXELS[..., 0])),
    "gray and alpha": ("PNG", Image.fromarray(PIXELS[..., :2], "LA")),
    "rgba": ("PNG", Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]]), "RGBA")),
    "palette": ("PNG", Image.fromarray(PIXELS).quantize(64)),
    "black and white": ("PNG", Image.fromarray(PIXELS[..., 0] > 127)),
    "webp": ("WEBP", Image.fromarray(PIXELS)),
    "webp with alpha": ("WEBP", Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]]), "RGBA")),
}


@pytest.mark.filterwarnings("ignore:.*mode.*:DeprecationWarning")
@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_files_hold_exactly_the_changed_pixels(name: str) -> None:
    kind, image = LOSSLESS[name]
    settings = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    photo = open_photo(file_of(image, kind, **settings))
    changed = moved(photo.pixels)

    data = photo.write(changed)

    assert photo.lossless
    again = open_photo(data)
    np.testing.assert_array_equal(again.pixels, changed)
    assert again.format == kind
    assert again.gray == photo.gray == (name in ("gray", "gray and alpha", "black and white"))
    if "alpha" in name or name == "rgba":
        before = np.array(image.getchannel("A"))
        assert np.array_equal(np.array(Image.open(io.BytesIO(data)).getchannel("A")), before)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_orientation_stays_and_the_change_is_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a camera"
    settings = {"lossless": True} if kind == "WEBP" else {}
    settings |= {"quality": 95} if kind == "JPEG" else {}
    stored = sanitize(file_of(smooth(), kind, exif=exif.tobytes(), **settings), ImageLimits())
    photo = open_photo(stored.data, stored.orientation)
    changed = photo.pixels.copy()
    changed[:16, :16] = 255

    delivered = photo.write(changed)

    again = sanitize(delivered, ImageLimits())
    assert again.orientation == orientation
    assert (again.width, again.height) == (stored.width, stored.height)
    shown = decode_rgb(again.data, again.orientation).astype(int)
    assert (shown[:14, :14] > 240).all()
    assert np.abs(shown[24:, 24:] - changed[24:, 24:].astype(int)).max() <= 12
    assert b"a camera" not in delivered


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_upright_is_what_pillow_does(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = decode_rgb(file_of(Image.fromarray(PIXELS), "PNG"), orientation)

    assert np.array_equal(upright(PIXELS, orientation), shown)
    assert np.array_equal(as_stored(upright(PIXELS, orientation), orientation), PIXELS)


@pytest.mark.parametrize("quality", [40, 92])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_a_jpeg_keeps_its_tables_profile_and_sampling(quality: int, subsampling: int) -> None:
    data = file_of(smooth(), "JPEG", quality=quality, subsampling=subsampling, icc_profile=PROFILE)
    photo = open_photo(data)

    written = Image.open(io.BytesIO(photo.write(moved(photo.pixels))))
    source = Image.open(io.BytesIO(data))

    assert written.quantization == source.quantization  # type: ignore[attr-defined]
    assert written.info["icc_profile"] == PROFILE
    assert written.layer == source.layer  # type: ignore[attr-defined]
    assert not photo.lossless


def test_a_gray_jpeg_stays_gray() -> None:
    photo = open_photo(file_of(smooth().convert("L"), "JPEG"))

    assert Image.open(io.BytesIO(photo.write(photo.pixels))).mode == "L"
    colored = photo.pixels.copy()
    colored[0, 0, 1] ^= 8
    with pytest.raises(ValueError, match="gray"):
        photo.write(colored)


def test_sixteen_bit_gray_moves_by_the_same_shares_and_keeps_its_low_bits() -> None:
    values = np.random.default_rng(1).integers(0, 65536, (40, 50)).astype(np.uint16)
    photo = open_photo(file_of(Image.fromarray(values), "PNG"))
    changed = moved(photo.pixels)

    again = np.asarray(Image.open(io.BytesIO(photo.write(changed)))).astype(int)

    steps = changed[..., 0].astype(int) - photo.pixels[..., 0]
    np.testing.assert_array_equal(again, np.clip(values + 257 * steps, 0, 65535))
    assert photo.gray


def test_cmyk_is_delivered_as_rgb_and_says_so() -> None:
    photo = open_photo(file_of(smooth().convert("CMYK"), "JPEG", quality=95))

    delivered = Image.open(io.BytesIO(photo.write(photo.pixels)))

    assert delivered.mode == "RGB"
    assert any("CMYK" in note for note in photo.notes)


def test_another_shape_or_format_is_refused() -> None:
    photo = open_photo(file_of(smooth(), "PNG"))
    with pytest.raises(ValueError, match="is not"):
        photo.write(photo.pixels[1:])
    with pytest.raises(ValueError, match="BMP"):
        open_photo(file_of(smooth(), "BMP"))
