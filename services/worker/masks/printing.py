"""Designs for the printer: PNG with its resolution, and a PDF at true size with cut lines."""

import io
import struct
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from matplotlib.backends.backend_pdf import FigureCanvasPdf, PdfPages
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageCms
from torch import Tensor

from services.worker.masks.outlines import AREA, Shape, boundary

DPI = 300
INCH = 25.4  # millimetres
PAPER = (210.0, 297.0)  # A4, in millimetres
# Width of the printed area when worn, in millimetres: an adult's surgical mask covers 175 mm, ear
# to ear; the others are cups and follow the face. Height follows the area's own proportions.
WIDTHS: Mapping[str, float] = MappingProxyType({"surgical": 175.0, "cloth": 165.0, "n95": 150.0})
DATED = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)  # in bytes 24 to 35 of an ICC profile
MARK = 8.0  # length of a corner's crop mark, in millimetres


def size_in_mm(shape: Shape) -> tuple[float, float]:
    """Return width and height of the printed area in millimetres."""
    left, top, right, bottom = AREA
    width = WIDTHS[shape]
    return width, width * (bottom - top) / (right - left)


def as_png(design: Tensor, shape: Shape) -> bytes:
    """Return a design ``(3, h, w)`` in [0, 1] as an sRGB PNG of 300 pixels an inch at true size."""
    return picture_png(_pixels(design), size_in_mm(shape))


def as_pdf(design: Tensor, shape: Shape, *, title: str) -> bytes:
    """Return a page of A4 with the design at true size, its cut line and a ruler.

    The page must be printed at 100 %; a line of 100 mm shows whether it was.
    """
    return picture_page(
        _pixels(design), size_in_mm(shape), cut_line(shape), title=title, name=shape
    )


def picture_png(picture: NDArray[np.uint8], size: tuple[float, float]) -> bytes:
    """Return a picture ``(h, w, 3)`` as an sRGB PNG of 300 pixels an inch, ``size`` in mm."""
    buffer = io.BytesIO()
    _sized(picture, size).save(buffer, "PNG", dpi=(DPI, DPI), icc_profile=_srgb())
    return buffer.getvalue()


def picture_page(
    picture: NDArray[np.uint8],
    size: tuple[float, float],
    line: NDArray[np.float64],
    *,
    title: str,
    name: str,
) -> bytes:
    """Return a page of A4 with a picture ``(h, w, 3)``, a cut line and a ruler; a PDF.

    ``size`` is width and height in millimetres, ``line`` is ``(N, 2)`` in millimetres from the
    picture's upper left. Raises ``ValueError`` for a size that does not fit the page.
    """
    page_width, page_height = PAPER
    width, height = size
    if not (0 < width <= page_width - 2 * MARK and 0 < height <= page_height - 100):
        raise ValueError(f"{width:.0f} x {height:.0f} mm do not fit a page of A4")
    figure = Figure(figsize=(page_width / INCH, page_height / INCH))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, page_width)
    axes.set_ylim(0, page_height)
    axes.set_axis_off()
    left, bottom = (page_width - width) / 2, page_height - 50 - height
    axes.imshow(
        np.asarray(_sized(picture, size)),
        extent=(left, left + width, bottom, bottom + height),
        interpolation="none",
        aspect="auto",
    )
    axes.set_xlim(0, page_width)
    axes.set_ylim(0, page_height)
    placed = line * (1, -1) + (left, bottom + height)
    axes.plot(*placed.T, color="black", linewidth=0.6, linestyle=(0, (4, 3)), label="cut")
    for x in (left, left + width):
        for y in (bottom, bottom + height):
            away = -MARK if y == bottom else MARK
            axes.plot((x, x), (y + away / 4, y + away), color="black", linewidth=0.4)
    axes.plot((55, 155), (bottom - 25, bottom - 25), color="black", linewidth=0.8)
    axes.text(105, bottom - 23, "100 mm: print at 100 %", ha="center", fontsize=8)
    axes.text(105, page_height - 20, title, ha="center", fontsize=11)
    axes.text(
        105,
        page_height - 27,
        f"{name}, {width:.0f} x {height:.0f} mm. Cut along the dashes. Digital, not physically "
        "tested; no medical device.",
        ha="center",
        fontsize=7,
    )
    buffer = io.BytesIO()
    # Without dates and names of programs: same design, same bytes.
    with PdfPages(
        buffer, metadata={"CreationDate": None, "Creator": None, "Producer": None}
    ) as pdf:
        FigureCanvasPdf(figure)
        pdf.savefig(figure)
    return buffer.getvalue()


def cut_line(shape: Shape) -> NDArray[np.float64]:
    """Return the outline in millimetres from the printed area's upper left, ``(N, 2)``; closed."""
    left, top, right, _ = AREA
    scale = WIDTHS[shape] / (right - left)
    line = (boundary(shape) - (left, top)) * scale
    return np.concatenate([line, line[:1]])


def _pixels(design: Tensor) -> NDArray[np.uint8]:
    array = design.detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
    return np.asarray(np.rint(255 * array), dtype=np.uint8)


def _sized(picture: NDArray[np.uint8], size: tuple[float, float]) -> Image.Image:
    width, height = (round(side / INCH * DPI) for side in size)
    return Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC)


def _srgb() -> bytes:
    """Return the profile of sRGB without the time of its making: same design, same bytes."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + DATED + profile[36:]
