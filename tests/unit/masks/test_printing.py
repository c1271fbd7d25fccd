"""True size, read back from the files."""

import io
import re
import time
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from services.worker.masks.outlines import SHAPES
from services.worker.masks.printing import (
    WIDTHS,
    as_pdf,
    as_png,
    cut_line,
    picture_page,
    picture_png,
    size_in_mm,
)

DESIGN = torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(0))
POINT = 25.4 / 72  # millimetres


@pytest.mark.parametrize("shape", SHAPES)
def test_a_png_is_as_large_as_the_mask_at_its_resolution(shape: str) -> None:
    image = Image.open(io.BytesIO(as_png(DESIGN, shape)))  # type: ignore[arg-type]

    width, height = size_in_mm(shape)  # type: ignore[arg-type]
    resolution = image.info["dpi"]
    assert resolution == pytest.approx((300, 300), abs=0.1)
    assert image.width / resolution[0] * 25.4 == pytest.approx(width, abs=0.1)
    assert image.height / resolution[1] * 25.4 == pytest.approx(height, abs=0.1)
    assert image.info["icc_profile"]


def drawing(pdf: bytes) -> str:
    """Return the page's drawing commands."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    for stream in streams:
        try:
            text = zlib.decompress(stream)
        except zlib.error:
            continue
        if b"/I1 Do" in text:
            return " ".join(text.decode("latin-1").split())
    raise AssertionError("no drawing in the PDF")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pdf_has_the_design_the_cut_line_and_the_ruler_at_true_size(shape: str) -> None:
    pdf = as_pdf(DESIGN, shape, title="a mask")  # type: ignore[arg-type]

    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", pdf)
    assert box is not None
    page = [float(side) * POINT for side in box.groups()]
    assert page == pytest.approx([210, 297], abs=0.1)
    commands = drawing(pdf)
    number = r"(-?[\d.]+)"
    lines = re.findall(rf"{number} {number} m {number} {number} l S", commands)
    lengths = [
        POINT * float(np.hypot(float(x1) - float(x0), float(y1) - float(y0)))
        for x0, y0, x1, y1 in lines
    ]
    assert any(length == pytest.approx(100, abs=0.05) for length in lengths), "the ruler"
    dashed = re.search(r"\] 0 d (.*?) S ", commands)
    assert dashed is not None
    points = np.array(re.findall(rf"{number} {number} [ml]", dashed[1]), dtype=float) * POINT
    cut = np.ptp(cut_line(shape), axis=0)  # type: ignore[arg-type]
    assert np.ptp(points, axis=0) == pytest.approx(cut, abs=0.2)
    images = re.findall(rf"{number} 0 0 -?([\d.]+) 0 {number} cm /I1 Do", commands)
    sizes = [(float(w) * POINT, float(h) * POINT) for w, h, _ in images]
    assert sizes == [pytest.approx(size_in_mm(shape), abs=0.3)]  # type: ignore[arg-type]


def test_same_design_same_bytes() -> None:
    assert as_pdf(DESIGN, "cloth", title="a") == as_pdf(DESIGN, "cloth", title="a")
    first = as_png(DESIGN, "cloth")
    time.sleep(1.05)  # profiles of color are dated to the second
    assert as_png(DESIGN, "cloth") == first


def test_the_cut_line_lies_within_the_printed_area() -> None:
    for shape in SHAPES:
        line = cut_line(shape)
        width, height = size_in_mm(shape)
        assert np.array_equal(line[0], line[-1])
        assert line.min() >= -0.01
        assert line[:, 0].max() <= width + 0.01
        assert line[:, 1].max() <= height + 0.01
        assert WIDTHS[shape] == width


SQUARE = np.array([(0, 0), (90, 0), (90, 90), (0, 90), (0, 0)], dtype=float)
PICTURE = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)


def test_a_picture_of_any_size_is_printed_at_it() -> None:
    image = Image.open(io.BytesIO(picture_png(PICTURE, (90, 45))))
    assert (image.width, image.height) == (round(90 / 25.4 * 300), round(45 / 25.4 * 300))

    commands = drawing(picture_page(PICTURE, (90, 90), SQUARE, title="a", name="b"))

    number = r"(-?[\d.]+)"
    images = re.findall(rf"{number} 0 0 -?([\d.]+) 0 {number} cm /I1 Do", commands)
    sizes = [(float(w) * POINT, float(h) * POINT) for w, h, _ in images]
    assert sizes == [pytest.approx((90, 90), abs=0.3)]
    dashed = re.search(r"\] 0 d (.*?) S ", commands)
    assert dashed is not None
    points = np.array(re.findall(rf"{number} {number} [ml]", dashed[1]), dtype=float) * POINT
    assert np.ptp(points, axis=0) == pytest.approx((90, 90), abs=0.2)


@pytest.mark.parametrize("size", [(0, 50), (200, 50), (50, 250)])
def test_what_does_not_fit_the_page_is_refused(size: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="do not fit a page of A4"):
        picture_page(PICTURE, size, SQUARE, title="a", name="b")
