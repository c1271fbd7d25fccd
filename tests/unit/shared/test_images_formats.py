"""What files of every kind become, and what is said of it."""

import io
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from shared.images import ImageLimits, ImageRejectedError, StoredImage, decode_rgb, sanitize
from shared.images.apart import convert_apart
from tests.fixtures.images import encoded, exif, insert, loaded_jpeg, png_chunk, profile, scene

LIMITS = ImageLimits()
pillow_heif.register_heif_opener()


def _pixels(stored: StoredImage) -> NDArray[np.int64]:
    return decode_rgb(stored.data, stored.orientation).astype(int)


def _refusal(data: bytes, limits: ImageLimits = LIMITS) -> ImageRejectedError:
    with pytest.raises(ImageRejectedError) as refusal:
        sanitize(data, limits)
    return refusal.value


# HEIC and AVIF


@pytest.mark.parametrize(("kind", "name"), [("HEIF", "HEIC"), ("AVIF", "AVIF")])
def test_a_phones_photo_becomes_a_jpeg_of_the_same_size_and_profile(kind: str, name: str) -> None:
    data = encoded(scene(width=200, height=120), kind, quality=95, icc_profile=profile())
    stored = sanitize(data, LIMITS)
    assert (stored.media_type, stored.width, stored.height) == ("image/jpeg", 200, 120)
    assert stored.notes == (f"the {name} was converted to a JPEG of quality 95",)
    with Image.open(io.BytesIO(data)) as original, Image.open(io.BytesIO(stored.data)) as image:
        assert image.info["icc_profile"] == original.info["icc_profile"]
        off = np.abs(np.asarray(original.convert("RGB")).astype(int) - np.asarray(image))
    assert off.mean() < 1.5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_a_phones_photo_is_upright_once(kind: str, orientation: int) -> None:
    picture = np.zeros((48, 80, 3), np.uint8)
    picture[:16, :24] = (250, 30, 30)  # in one corner
    data = encoded(Image.fromarray(picture), kind, exif=exif(orientation), quality=95)
    expected = decode_rgb(encoded(Image.fromarray(picture), "PNG"), orientation).astype(int)
    stored = sanitize(data, LIMITS)
    assert (stored.orientation, stored.notes[1:]) == (1, ())
    assert _pixels(stored).shape == expected.shape
    assert np.abs(_pixels(stored) - expected).mean() < 4
    assert b"PLANTED-SECRET" not in stored.data


@pytest.mark.parametrize(("kind", "name"), [("HEIF", "HEIC"), ("AVIF", "AVIF")])
def test_transparency_keeps_a_phones_photo_from_being_a_jpeg(kind: str, name: str) -> None:
    data = encoded(scene("RGBA", width=64, height=64), kind, quality=95)
    stored = sanitize(data, LIMITS)
    assert stored.media_type == "image/png"
    assert stored.notes == (f"the {name} was converted to a PNG",)
    with Image.open(io.BytesIO(data)) as image:
        before = np.asarray(image.convert("RGBA"))
    with Image.open(io.BytesIO(stored.data)) as image:
        assert np.array_equal(np.asarray(image), before)


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_an_opaque_alpha_channel_is_no_transparency(kind: str) -> None:
    opaque = scene("RGB", width=64, height=64)
    opaque.putalpha(255)
    assert sanitize(encoded(opaque, kind), LIMITS).media_type == "image/jpeg"


def test_pictures_and_bits_that_are_left_out_are_said() -> None:
    burst = encoded(scene(), "HEIF", save_all=True, append_images=[scene(), scene()])
    assert sanitize(burst, LIMITS).notes[1:] == (
        "the first of 3 pictures was taken, 2 were left out",
    )
    moving = encoded(scene(), "AVIF", save_all=True, append_images=[scene().rotate(180)])
    assert sanitize(moving, LIMITS).notes[1:] == (
        "the first of 2 frames was taken, 1 was left out",
    )
    deep = pillow_heif.from_bytes("RGB;16", (64, 64), bytes(range(256)) * 96)
    out = io.BytesIO()
    deep.save(out)
    assert sanitize(out.getvalue(), LIMITS).notes[1:] == ("10 bits a channel became 8",)


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_the_size_of_a_phones_photo_is_checked(kind: str) -> None:
    data = encoded(scene(width=80, height=64), kind)
    assert _refusal(data, ImageLimits(max_side=79)).slug == "image-too-many-pixels"
    assert sanitize(data, ImageLimits(max_side=80, max_pixels=80 * 64)).width == 80


def test_a_header_that_claims_too_many_pixels_is_refused_before_they_are_decoded() -> None:
    data = bytearray(encoded(scene(width=64, height=64), "HEIF"))
    size = data.index(b"ispe") + 8
    data[size : size + 8] = struct.pack(">II", 16_000, 16_000)
    assert _refusal(bytes(data)).slug == "image-too-many-pixels"


def test_a_decoder_that_crashes_costs_one_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.images.apart._RUN", "import os; os.abort()")
    with pytest.raises(ImageRejectedError, match="its decoder failed"):
        convert_apart(b"", "HEIC", LIMITS)


def test_a_decoder_that_wants_too_much_memory_costs_one_photo(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    greedy = (
        "import sys; sys.path.insert(0, sys.argv[1]); from shared.images import foreign;"
        "foreign.convert = lambda *_: bytes(4 * 2**30); foreign.main()"
    )
    monkeypatch.setattr("shared.images.apart._RUN", greedy)
    with pytest.raises(ImageRejectedError, match="cannot be decoded"):
        convert_apart(b"", "HEIC", LIMITS)


# What is not read


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\xff\x0a" + bytes(20), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20), "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20), "JPEG 2000"),
        (b"\xff\x4f\xff\x51" + bytes(20), "JPEG 2000"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\n\n%PDF-1.4\n", "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a drawing -->\n<svg:svg>", "SVG"),
        (b"II+\0\x08\0\0\0" + bytes(20), "BigTIFF"),
        (b"MM\0+\0\x08\0\0" + bytes(20), "BigTIFF"),
        (b"II\xbc\x01" + bytes(20), "JPEG XR"),
        (b"8BPS\0\x01" + bytes(20), "Photoshop"),
        (b"\0\0\x01\0\x01\0" + bytes(20), "icon"),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(20), "raw file"),
        (b"\0\0\0\x18ftypcrx " + bytes(20), "raw file"),
        (b"\0\0\0\x18ftypmp42" + bytes(20), "video"),
        (b"PK\x03\x04" + bytes(20), "archive"),
        (b"<!doctype html><html><body>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    ],
)
def test_what_is_not_read_is_refused_by_its_name(data: bytes, name: str) -> None:
    refusal = _refusal(data)
    assert refusal.slug == "unsupported-image-type"
    assert name in refusal.detail
    assert "HEIC" in refusal.detail  # and the kinds that are read are named


def test_real_jpeg_2000_is_refused_by_its_name() -> None:
    assert "JPEG 2000" in _refusal(encoded(scene(), "JPEG2000")).detail


def test_jpegs_of_other_depths_and_pngs_of_apps_are_refused_by_their_names() -> None:
    deep = bytearray(encoded(scene(), "JPEG"))
    deep[deep.index(b"\xff\xc0") + 4] = 12
    assert "12 bits a sample" in _refusal(bytes(deep)).detail
    app = insert(encoded(scene(), "PNG"), 8, png_chunk(b"CgBI", bytes(4)))
    assert "CgBI" in _refusal(app).detail


# What is thrown away anyway


@pytest.mark.parametrize(
    "stray", [bytes(7), b"garbage", b"\xff\x00\xff\xff", b"\xff\xd8", b"\xff\xd9"]
)
@pytest.mark.parametrize("place", ["after the start", "before the frame", "before the scan"])
def test_stray_bytes_between_the_segments_of_a_jpeg_cost_nothing(place: str, stray: bytes) -> None:
    plain = encoded(scene(), "JPEG")
    at = {"after the start": 2, "before the frame": plain.index(b"\xff\xc0")}
    data = insert(plain, at.get(place, plain.index(b"\xff\xda")), stray)
    assert sanitize(data, LIMITS).data == sanitize(plain, LIMITS).data


def test_broken_metadata_of_a_jpeg_cost_nothing() -> None:
    plain = encoded(scene(), "JPEG")
    for segment in (b"\xff\xe1\0\0", b"\xff\xfe\0\1", b"\xff\xe2\0\x10ICC_PROFILE\0\1\2"):
        assert sanitize(insert(plain, 2, segment), LIMITS).data == sanitize(plain, LIMITS).data


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_trailing_bytes_cost_nothing(kind: str) -> None:
    data = encoded(scene("P" if kind == "GIF" else "RGB"), kind)
    assert sanitize(data + b"\r\n\0garbage", LIMITS).data == sanitize(data, LIMITS).data


@pytest.mark.parametrize("claimed", [0, 11, 2**31, -100])
def test_a_wrong_length_of_the_whole_webp_costs_nothing(claimed: int) -> None:
    plain = encoded(scene(), "WEBP")
    length = len(plain) - 8 + claimed if claimed < 0 else claimed
    data = plain[:4] + struct.pack("<I", length) + plain[8:]
    assert np.array_equal(_pixels(sanitize(data, LIMITS)), _pixels(sanitize(plain, LIMITS)))


def test_what_follows_the_first_frame_of_a_gif_may_be_cut() -> None:
    data = encoded(scene("P"), "GIF", save_all=True, append_images=[scene("P").rotate(90)])
    whole = sanitize(data, LIMITS)
    cut = sanitize(data[:-200], LIMITS)
    assert cut.data == whole.data
    assert whole.notes == (
        "the GIF was converted to a PNG",
        "the first of 2 frames was taken, 1 was left out",
    )


def test_a_png_without_its_end_is_read() -> None:
    data = encoded(scene(), "PNG")
    for missing in (12, 16, 20):  # the end chunk; the pixels' two checksums
        assert np.array_equal(_pixels(sanitize(data[:-missing], LIMITS)), np.asarray(scene()))


# What changed


NOTES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "jpeg": (encoded(scene(), "JPEG"), ()),
    "png": (encoded(scene(), "PNG"), ()),
    "bmp": (encoded(scene(), "BMP"), ("the BMP was converted to a PNG",)),
    "pages": (
        encoded(scene(), "TIFF", save_all=True, append_images=[scene(), scene()]),
        ("the TIFF was converted to a PNG", "the first of 3 pages was taken, 2 were left out"),
    ),
    "ink": (
        encoded(scene("CMYK"), "TIFF"),
        ("the TIFF was converted to a PNG", "CMYK became 8-bit sRGB"),
    ),
    "floats": (
        encoded(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF"),
        ("the TIFF was converted to a PNG", "floating-point gray became 8-bit sRGB"),
    ),
    "animated png": (
        encoded(scene(), "PNG", save_all=True, append_images=[scene().rotate(90)]),
        ("the first of 2 frames was taken, 1 was left out",),
    ),
    "animated webp": (
        encoded(scene(), "WEBP", save_all=True, append_images=[scene().rotate(90)]),
        ("the WebP was converted to a PNG", "the first of 2 frames was taken, 1 was left out"),
    ),
    "broken profile": (
        encoded(scene(), "JPEG", icc_profile=b"not a profile" * 20),
        ("a damaged color profile was left out",),
    ),
}


@pytest.mark.parametrize("name", NOTES)
def test_what_changed_on_the_way_is_said(name: str) -> None:
    data, notes = NOTES[name]
    assert sanitize(data, LIMITS).notes == notes


def test_sixteen_bits_of_a_tiffs_colors_are_said() -> None:
    cv2 = pytest.importorskip("cv2")
    colors = np.random.default_rng(1).integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    data = cv2.imencode(".tiff", colors)[1].tobytes()
    assert "16 bits a channel became 8" in sanitize(data, LIMITS).notes


def test_a_second_picture_behind_a_jpeg_is_said() -> None:
    data = encoded(scene(), "MPO", save_all=True, append_images=[scene().rotate(180)])
    [note] = sanitize(data, LIMITS).notes
    assert "gain map" in note
    assert sanitize(loaded_jpeg(scene()), LIMITS).notes == ("a damaged color profile was left out",)


# The full picture of a TIFF


def _tiff(*pages: tuple[Image.Image, dict[int, Any]]) -> bytes:
    """Pages with further tags each."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(encoded(pages[0][0], "PNG"))) as first:
        rest = []
        for image, tags in pages[1:]:
            page = image.copy()
            page.encoderinfo = {"tiffinfo": tags}
            rest.append(page)
        first.save(out, "TIFF", save_all=True, append_images=rest, tiffinfo=pages[0][1])
    return out.getvalue()


LARGE = scene(width=400, height=300)
SMALL = LARGE.resize((80, 60))
TAKEN = "the first page is a thumbnail: the full picture was taken"


@pytest.mark.parametrize("mark", [{254: 1}, {255: 2}, {}], ids=["marked", "old mark", "no mark"])
def test_the_full_picture_is_taken_where_the_first_page_is_its_thumbnail(
    mark: dict[int, int],
) -> None:
    stored = sanitize(_tiff((SMALL, mark), (LARGE, {})), LIMITS)
    assert stored.notes == ("the TIFF was converted to a PNG", TAKEN)
    assert np.array_equal(_pixels(stored), np.asarray(LARGE))


def test_pages_of_another_shape_are_no_thumbnails() -> None:
    stored = sanitize(_tiff((SMALL, {}), (LARGE.crop((0, 0, 400, 200)), {})), LIMITS)
    assert np.array_equal(_pixels(stored), np.asarray(SMALL))
    assert stored.notes[1:] == ("the first of 2 pages was taken, 1 was left out",)


def test_smaller_copies_behind_the_full_picture_are_no_pages() -> None:
    stored = sanitize(_tiff((LARGE, {}), (SMALL, {254: 1}), (SMALL, {254: 4})), LIMITS)
    assert stored.notes == ("the TIFF was converted to a PNG",)
    assert (stored.width, stored.height) == (400, 300)


def _nested() -> bytes:
    """A thumbnail whose directory names the full picture's (tag 330)."""
    data = bytearray(_tiff((SMALL, {254: 1, 330: 0}), (LARGE, {})))
    start = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, start)[0]
    end = start + 2 + 12 * count
    following = struct.unpack_from("<I", data, end)[0]
    struct.pack_into("<I", data, end, 0)
    for entry in range(start + 2, end, 12):
        if struct.unpack_from("<H", data, entry)[0] == 330:
            struct.pack_into("<HII", data, entry + 2, 4, 1, following)
    return bytes(data)


def test_the_full_picture_is_taken_from_within_the_thumbnails_directory() -> None:
    stored = sanitize(_nested(), LIMITS)
    assert stored.notes == ("the TIFF was converted to a PNG", TAKEN)
    assert np.array_equal(_pixels(stored), np.asarray(LARGE))


def test_a_cameras_raw_file_is_refused_by_its_name() -> None:
    for tags in ({50706: b"\1\4\0\0"}, {254: 1}):
        data = _tiff((SMALL, tags))
        if 50706 not in tags:
            at = data.index(struct.pack("<HHII", 262, 3, 1, 2))
            data = data[: at + 8] + struct.pack("<I", 32803) + data[at + 12 :]
        assert "raw file" in _refusal(data).detail


# Colors


def test_ink_is_managed_by_its_profile_in_a_tiff_as_in_a_jpeg() -> None:
    lab = ImageCms.createProfile("LAB")
    picture = Image.new("LAB", (16, 16), (180, 150, 100))
    expected = ImageCms.profileToProfile(
        picture, lab, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert expected is not None
    stored = sanitize(encoded(picture, "TIFF"), LIMITS)
    assert "CIE L*a*b* became 8-bit sRGB" in stored.notes
    assert np.abs(_pixels(stored) - np.asarray(expected)).max() <= 1


# The cases that were handed over


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "size", "media_type", "said"),
    [
        ("pillow1337_extraneous7.jpg", (512, 512), "image/jpeg", ""),
        ("noeoi.jpg", (512, 512), "image/jpeg", ""),
        ("dqt_ids23.jpg", (512, 512), "image/jpeg", ""),
        ("cmyk_icc.jpg", (400, 400), "image/jpeg", ""),
        ("png_bad_text_crc.png", (192, 192), "image/png", ""),
        ("cmyk.tif", (192, 192), "image/png", "CMYK became 8-bit sRGB"),
        ("tiff_two_pages.tif", (160, 160), "image/png", "the first of 2 pages was taken"),
        ("animated.gif", (256, 256), "image/png", "the first of 2 frames was taken"),
    ],
)
def test_the_cases_are_read(
    shared_data: Path, name: str, size: tuple[int, int], media_type: str, said: str
) -> None:
    stored = sanitize((shared_data.parent / "cases" / name).read_bytes(), LIMITS)
    assert ((stored.width, stored.height), stored.media_type) == (size, media_type)
    assert re.search(re.escape(said), " ".join(stored.notes))
    assert bool(stored.notes) == bool(said)
    assert _pixels(stored).shape == (*size[::-1], 3)
