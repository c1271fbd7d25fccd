"""Boxes and labels drawn into photos, legible without color vision."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from services.worker.encoding import jpeg, png
from services.worker.faces.crops import Pixels

# Blue, orange and purple of Okabe and Ito's palette: told apart with any color vision.
_COLORS = ("#0072B2", "#D55E00", "#CC79A7", "#009E73", "#E69F00")
MAX_SIDE = 2048


@dataclass(frozen=True)
class Mark:
    """A box ``(x0, y0, x1, y1)`` in pixels with a text, in the color of its class."""

    box: tuple[float, float, float, float]
    text: str
    color_index: int


def draw_marks(image: Pixels, marks: Sequence[Mark], *, scale: float = 1.0) -> bytes:
    """Draw marks (in photo pixels, times ``scale``) into a copy; returns a JPEG."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    unit = max(1, round(max(picture.size) / 500))
    font = ImageFont.load_default(size=max(11, round(max(picture.size) / 45)))
    for mark in marks:
        color = _COLORS[mark.color_index % len(_COLORS)]
        x0, y0, x1, y1 = (value * scale for value in mark.box)
        draw.rectangle((x0, y0, x1, y1), outline="white", width=2 * unit + 2)
        draw.rectangle((x0, y0, x1, y1), outline=color, width=2 * unit)
    for mark in marks:  # texts last: no box may cross one
        _label(draw, mark, font, scale=scale, size=picture.size)
    return jpeg(picture)


def _label(
    draw: ImageDraw.ImageDraw,
    mark: Mark,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    *,
    scale: float,
    size: tuple[int, int],
) -> None:
    left, top, right, bottom = draw.textbbox((0, 0), mark.text, font=font)
    width, height = right - left, bottom - top
    pad = max(2, height // 4)
    x = min(max(0.0, mark.box[0] * scale), max(0.0, size[0] - width - 2 * pad))
    above = mark.box[1] * scale - height - 2 * pad
    y = above if above >= 0 else min(mark.box[3] * scale, size[1] - height - 2 * pad)
    color = _COLORS[mark.color_index % len(_COLORS)]
    draw.rectangle((x, y, x + width + 2 * pad, y + height + 2 * pad), fill=color)
    draw.text((x + pad - left, y + pad - top), mark.text, fill="white", font=font)


@dataclass(frozen=True)
class Panel:
    """A small picture with a title and a caption."""

    picture: Pixels
    title: str
    caption: str


PANEL = 192
TEXT = 18


def draw_rows(rows: Sequence[Sequence[Panel]]) -> bytes:
    """Draw panels in rows, each enlarged without smoothing so that its pixels show; a PNG."""
    columns = max(len(row) for row in rows)
    gap, height = 8, PANEL + 2 * TEXT + 12
    sheet = Image.new("RGB", (columns * (PANEL + gap) + gap, len(rows) * height + gap), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=13)
    for y, row in enumerate(rows):
        for x, panel in enumerate(row):
            left, top = gap + x * (PANEL + gap), gap + y * height
            picture = Image.fromarray(panel.picture)
            sheet.paste(picture.resize((PANEL, PANEL), Image.Resampling.NEAREST), (left, top))
            draw.text((left, top + PANEL + 2), panel.title, fill="black", font=font)
            draw.text((left, top + PANEL + 2 + TEXT), panel.caption, fill="#444444", font=font)
    return png(sheet)
