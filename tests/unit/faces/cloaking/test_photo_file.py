"""Photos that are written as they came."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from services.worker.faces.cloaking.jpeg_writer import write_jpeg
from services.worker.faces.cloaking.photo_file import as_stored, open_photo, upright
from shared.images import ImageLimits, ImageRejectedError, decode_rgb, sanitize
from shared.images.jpeg_frame import read_frame

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


SAMPLINGS = {
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:4:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:1:1": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
}


def sampled(sampling: str, **options: int) -> bytes:
    """A JPEG that OpenCV wrote, with tables of its own for brightness and color."""
    settings = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLINGS[sampling]]
    settings += [cv2.IMWRITE_JPEG_LUMA_QUALITY, 93, cv2.IMWRITE_JPEG_CHROMA_QUALITY, 82]
    for name, value in options.items():
        settings += [getattr(cv2, f"IMWRITE_JPEG_{name}"), value]
    written, data = cv2.imencode(".jpg", np.asarray(smooth())[..., ::-1], settings)
    assert written
    return data.tobytes()


def renumbered(data: bytes, tables: dict[int, int], ids: dict[int, int] | None = None) -> bytes:
    """A JPEG with other numbers of its quantization tables, and ids of its components."""
    new = bytearray(data)
    position = 2
    while new[position + 1] != 0xDA:
        marker = new[position + 1]
        length = int.from_bytes(new[position + 2 : position + 4], "big")
        if marker == 0xDB:
            for at in range(position + 4, position + 2 + length, 65):
                new[at] = tables[new[at]]
        elif marker in (0xC0, 0xC2):
            for at in range(position + 10, position + 10 + 3 * new[position + 9], 3):
                new[at] = (ids or {}).get(new[at], new[at])
                new[at + 2] = tables[new[at + 2]]
        position += 2 + length
    for at in range(position + 5, position + 5 + 2 * new[position + 4], 2):
        new[at] = (ids or {}).get(new[at], new[at])
    return bytes(new)


def with_wide_tables(data: bytes) -> bytes:
    """A JPEG whose tables are sent with 16 bits a value."""
    new, position = bytearray(data[:2]), 2
    while data[position + 1] != 0xDA:
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        body = data[position + 4 : position + 2 + length]
        marker = data[position + 1]
        if marker == 0xDB:
            wide = b""
            for at in range(0, len(body), 65):
                values = b"".join(bytes((0, value)) for value in body[at + 1 : at + 65])
                wide += bytes((0x10 | body[at],)) + values
            body = wide
        new += bytes((0xFF, 0xC1 if marker == 0xC0 else marker))
        new += (len(body) + 2).to_bytes(2, "big") + body
        position += 2 + length
    return bytes(new) + data[position:]


ARRANGEMENTS = {
    **{name: sampled(name) for name in SAMPLINGS},
    **{f"{name} progressive": sampled(name, PROGRESSIVE=1) for name in SAMPLINGS},
    **{f"{name} restarts": sampled(name, RST_INTERVAL=2) for name in SAMPLINGS},
    "tables 2 and 3": renumbered(file_of(smooth(), "JPEG", quality=90), {0: 2, 1: 3}),
    "tables crossed": renumbered(file_of(smooth(), "JPEG", quality=90), {0: 1, 1: 0}),
    "other ids": renumbered(
        file_of(smooth(), "JPEG", quality=90), {0: 3, 1: 0}, {1: 200, 2: 0, 3: 17}
    ),
    "wide tables": with_wide_tables(file_of(smooth(), "JPEG", quality=90)),
    "three tables": file_of(smooth(), "JPEG", qtables=[[3] * 64, [7] * 64, [5] * 64]),
    "coarse tables": file_of(smooth(), "JPEG", qtables=[[3] * 60 + [400] * 4, [9] * 64]),
    "one table": file_of(smooth(), "JPEG", qtables=[[4] * 64]),
    "red, green and blue": file_of(smooth(), "JPEG", quality=90, keep_rgb=True, subsampling=0),
    "gray": file_of(smooth().convert("L"), "JPEG", quality=90),
    "gray, table 2": renumbered(file_of(smooth().convert("L"), "JPEG", quality=90), {0: 2}),
    "gray, progressive": file_of(smooth().convert("L"), "JPEG", progressive=True),
    "gray, restarts": file_of(smooth().convert("L"), "JPEG", restart_marker_blocks=3),
}


def arrangement(data: bytes) -> list[tuple[int, int, list[int]]]:
    """Sampling factors and table of each component, as Pillow reads them."""
    with Image.open(io.BytesIO(data)) as image:
        tables = image.quantization  # type: ignore[attr-defined]
        layers = image.layer  # type: ignore[attr-defined]
    largest = [max(layer[at] for layer in layers) for at in (1, 2)]
    return [(largest[0] // x, largest[1] // y, tables[number]) for _, x, y, number in layers]


@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_every_jpeg_that_is_read_is_written_with_its_own_tables_and_sampling(name: str) -> None:
    stored = sanitize(ARRANGEMENTS[name], ImageLimits())
    photo = open_photo(stored.data, stored.orientation)
    changed = moved(photo.pixels)
    if photo.gray:
        changed = np.repeat(changed[..., :1], 3, 2)

    data = photo.write(changed)

    assert arrangement(data) == arrangement(stored.data)
    again = sanitize(data, ImageLimits())
    assert again.notes == ()
    shown = decode_rgb(again.data).astype(int)
    assert np.abs(shown - changed.astype(int)).mean() < 2.5
    with Image.open(io.BytesIO(data)) as image:
        assert (image.mode == "L") == name.startswith("gray")
        is_progressive = bool(image.info.get("progressive"))
    assert is_progressive == (
        "progressive" in name and not any("baseline" in n for n in photo.notes)
    )
    if "restarts" in name and name[:5] not in ("4:4:0", "4:1:1"):
        assert b"\xff\xdd" in data


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(sorted(ARRANGEMENTS)),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_whatever_jpeg_can_be_decoded_can_be_written(
    name: str, edits: list[tuple[float, int]]
) -> None:
    data = bytearray(ARRANGEMENTS[name])
    head = data.index(b"\xff\xda") + 14
    for place, value in edits:
        data[int(place * (head - 1))] = value
    limits = ImageLimits(max_pixels=100_000)
    try:
        stored = sanitize(bytes(data), limits)
        shown = decode_rgb(stored.data, stored.orientation, limits=limits)
    except ImageRejectedError:
        return
    photo = open_photo(stored.data, stored.orientation)
    again = sanitize(photo.write(photo.pixels), limits)
    assert photo.pixels.shape == shown.shape
    assert (again.width, again.height) == (stored.width, stored.height)


@pytest.mark.parametrize("sampling", ["4:4:0", "4:1:1"])
@pytest.mark.parametrize("size", [(1, 1), (7, 9), (8, 8), (33, 17), (96, 80), (640, 481)])
def test_sampling_that_pillow_does_not_write_is_as_near_as_opencvs(
    sampling: str, size: tuple[int, int]
) -> None:
    picture = np.asarray(smooth().resize(size))
    settings = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLINGS[sampling], cv2.IMWRITE_JPEG_QUALITY, 95]
    data = cv2.imencode(".jpg", picture[..., ::-1], settings)[1].tobytes()
    theirs = np.abs(decode_rgb(data).astype(int) - picture).mean()

    ours = write_jpeg(Image.fromarray(picture), read_frame(data), profile=PROFILE)

    assert np.abs(decode_rgb(ours).astype(int) - picture).mean() <= theirs + 1
    assert read_frame(ours).components == read_frame(data).components
    with Image.open(io.BytesIO(ours)) as image:
        assert image.info["icc_profile"] == PROFILE
        assert image.size == size


def test_orientation_and_profile_stay_where_pillow_does_not_write_the_sampling() -> None:
    with Image.open(io.BytesIO(sampled("4:1:1"))) as image:
        frame = read_frame(sampled("4:1:1"))
        exif = Image.Exif()
        exif[0x0112] = 6
        data = write_jpeg(image.convert("RGB"), frame, profile=PROFILE, exif=exif.tobytes())
    stored = sanitize(data, ImageLimits())
    photo = open_photo(stored.data, stored.orientation)

    again = sanitize(photo.write(photo.pixels), ImageLimits())

    assert (again.orientation, again.width, again.height) == (6, 80, 96)
    with Image.open(io.BytesIO(again.data)) as image:
        assert image.info["icc_profile"] == PROFILE


def test_cmyk_is_delivered_as_rgb_and_says_so() -> None:
    photo = open_photo(file_of(smooth().convert("CMYK"), "JPEG", quality=95))

    delivered = Image.open(io.BytesIO(photo.write(photo.pixels)))

    assert delivered.mode == "RGB"
    assert any("CMYK" in note for note in photo.notes)


def test_a_palette_and_black_and_white_are_said() -> None:
    for image in (smooth().quantize(64), smooth().convert("1")):
        assert len(open_photo(file_of(image, "PNG")).notes) == 1


@pytest.mark.shared_data
def test_the_cases_are_delivered_with_their_tables_and_colors(shared_data: Path) -> None:
    cases = shared_data.parent / "cases"
    stored = sanitize((cases / "dqt_ids23.jpg").read_bytes(), ImageLimits())
    photo = open_photo(stored.data)
    assert arrangement(photo.write(photo.pixels)) == arrangement(stored.data)
    ink = sanitize((cases / "cmyk_icc.jpg").read_bytes(), ImageLimits())
    photo = open_photo(ink.data)
    delivered = decode_rgb(photo.write(photo.pixels)).astype(int)
    assert np.abs(delivered - decode_rgb(ink.data)).mean() < 3


def test_another_shape_or_format_is_refused() -> None:
    photo = open_photo(file_of(smooth(), "PNG"))
    with pytest.raises(ValueError, match="is not"):
        photo.write(photo.pixels[1:])
    with pytest.raises(ValueError, match="BMP"):
        open_photo(file_of(smooth(), "BMP"))
