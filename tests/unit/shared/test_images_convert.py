"""A JPEG for those who ask for one."""

import io

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from shared.images import ImageLimits, ImageRejectedError, decode_rgb, sanitize
from shared.images.convert import to_jpeg
from tests.fixtures.images import encoded, exif, profile, scene

pillow_heif.register_heif_opener()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP", "HEIF", "AVIF"])
def test_every_kind_becomes_a_jpeg_that_shows_the_same(kind: str) -> None:
    stored = sanitize(encoded(scene(), kind, icc_profile=profile(), quality=95), ImageLimits())
    data = to_jpeg(stored.data, stored.orientation)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("JPEG", (67, 45))
        assert bool(image.info.get("icc_profile")) == (kind != "BMP")
    assert np.abs(decode_rgb(data).astype(int) - decode_rgb(stored.data)).mean() < 2


def test_a_jpeg_stays_as_it_is() -> None:
    data = sanitize(encoded(scene("CMYK"), "JPEG"), ImageLimits()).data
    assert to_jpeg(data) == data


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "L", "I;16"])
def test_modes_that_jpeg_has_not_become_what_a_viewer_shows(mode: str) -> None:
    stored = sanitize(encoded(scene(mode), "PNG"), ImageLimits())
    data = to_jpeg(stored.data)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == ("L" if mode == "L" else "RGB")
    assert np.abs(decode_rgb(data).astype(int) - decode_rgb(stored.data)).mean() < 4


def test_orientation_goes_along() -> None:
    stored = sanitize(encoded(scene(), "PNG", exif=exif(6)), ImageLimits())
    again = sanitize(to_jpeg(stored.data, stored.orientation), ImageLimits())
    assert (again.orientation, again.width, again.height) == (6, 45, 67)


def test_damage_is_a_refusal() -> None:
    with pytest.raises(ImageRejectedError):
        to_jpeg(encoded(scene(), "PNG")[:200])
