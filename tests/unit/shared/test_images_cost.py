"""What decoding costs, by the header."""

import pillow_heif
import pytest
from PIL import Image

from shared.images.cost import decoding_cost
from tests.fixtures.images import encoded, scene, tiff_claiming

PIXELS = 300 * 200


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "HEIF", "AVIF"])
def test_cost_grows_with_the_pixels(kind: str) -> None:
    pillow_heif.register_heif_opener()
    small, large = (
        decoding_cost(encoded(Image.new("RGB", size), kind)) for size in ((300, 200), (3000, 2000))
    )
    assert small >= PIXELS
    assert 99 * PIXELS <= large - small <= 5 * 99 * PIXELS


def test_every_scan_of_a_progressive_jpeg_costs_its_pixels() -> None:
    plain = encoded(scene(width=300, height=200), "JPEG", progressive=True)
    scans = plain.count(b"\xff\xda")
    assert decoding_cost(plain) == scans * PIXELS
    last = plain[plain.rindex(b"\xff\xda") : -2]
    assert decoding_cost(plain[:-2] + 50 * last + b"\xff\xd9") == (scans + 50) * PIXELS
    assert decoding_cost(encoded(scene(width=300, height=200), "JPEG")) == PIXELS


def test_interlaced_pngs_and_large_tiles_cost_more() -> None:
    plain = bytearray(encoded(Image.new("RGB", (300, 200)), "PNG"))
    before = decoding_cost(bytes(plain))
    plain[28] = 1
    assert decoding_cost(bytes(plain)) == 2 * before
    tags = {256: (4, 1, 16), 257: (4, 1, 16), 322: (4, 1, 5000), 323: (4, 1, 4000)}
    assert decoding_cost(tiff_claiming(tags)) >= 5000 * 4000


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_cut_header_costs_at_least_its_bytes_and_never_fails(kind: str) -> None:
    data = encoded(scene("P" if kind == "GIF" else "RGB"), kind)
    for end in range(40):
        assert decoding_cost(data[:end]) >= end
