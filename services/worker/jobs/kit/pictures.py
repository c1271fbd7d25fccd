"""Boxes and labels drawn into photos, legible without color vision."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from services.worker.encoding import jpeg, png
from services.worker.faces.crops import Pixels
from services.worker.jobs.kit.labels import Rectangle, lay_out

# Blue, orange and purple of Okabe and Ito's palette: told apart with any color vision.
_COLORS = ("#0072B2", "#D55E00", "#CC79A7", "#009E73", "#E69F00")
MAX_SIDE = 2048
# Of fonts, as parts of the picture's longer side.
SMALLEST_FONT, LARGEST_FONT, LEGEND_FONT = 110, 36, 80


@dataclass(frozen=True)
class Mark:
    """A box ``(x0, y0, x1, y1)`` in pixels with a text, in the color of its class."""

    box: tuple[float, float, float, float]
    text: str
    color_index: int


def draw_marks(image: Pixels, marks: Sequence[Mark], *, scale: float = 1.0) -> bytes:
    """Draw marks (in photo pixels, times ``scale``) into a copy; returns a JPEG.

    Each label is sized by its box and lies over no other one. Where there is no room for all texts
    the boxes have numbers, in the order of ``marks``, and a legend is added below the picture.
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    longest = max(picture.size)
    fonts = max(11, round(longest / SMALLEST_FONT)), max(11, round(longest / LARGEST_FONT))
    boxes = [_scaled(mark.box, scale) for mark in marks]
    for mark, box in zip(marks, boxes, strict=True):
        unit = _line_width(box, longest)
        draw.rectangle(box, outline="white", width=2 * unit + 2)
        draw.rectangle(box, outline=_color(mark), width=2 * unit)
    layout = lay_out(
        boxes,
        [mark.text for mark in marks],
        size=picture.size,
        fonts=fonts,
        measure=lambda text, font: _tag_size(draw, text, font),
    )
    for mark, label in zip(marks, layout.labels, strict=True):
        _tag(draw, label.text, label.place, label.font, _color(mark))
    return jpeg(_with_legend(picture, marks) if layout.is_numbered else picture)


def _scaled(box: Rectangle, scale: float) -> Rectangle:
    x0, y0, x1, y1 = (value * scale for value in box)
    return x0, y0, x1, y1


def _line_width(box: Rectangle, longest: int) -> int:
    """Return half the width of a box's line: thinner around small faces."""
    side = min(box[2] - box[0], box[3] - box[1])
    return max(1, min(round(longest / 500), round(side / 60)))


def _color(mark: Mark) -> str:
    return _COLORS[mark.color_index % len(_COLORS)]


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _tag_size(draw: ImageDraw.ImageDraw, text: str, font: int) -> tuple[float, float]:
    """Return a tag's width and height; all tags of one font are of one height."""
    pad = _padding(font)
    return draw.textlength(text, font=_font(font)) + 2 * pad, font + 2 * pad


def _padding(font: int) -> int:
    return max(2, font // 5)


def _tag(draw: ImageDraw.ImageDraw, text: str, place: Rectangle, font: int, color: str) -> None:
    draw.rectangle(place, fill=color)
    middle = place[0] + _padding(font), (place[1] + place[3]) / 2
    draw.text(middle, text, fill="white", font=_font(font), anchor="lm")


def _with_legend(picture: Image.Image, marks: Sequence[Mark]) -> Image.Image:
    """Add what the numbers mean below a picture, in as many columns as there is room for."""
    font = max(12, round(max(picture.size) / LEGEND_FONT))
    draw = ImageDraw.Draw(picture)
    row = font + 2 * _padding(font)
    number = max(_tag_size(draw, str(index + 1), font)[0] for index in range(len(marks)))
    text = max(draw.textlength(mark.text, font=_font(font)) for mark in marks)
    column = number + text + 3 * row / 2
    columns = max(1, int((picture.width - row / 2) // column))
    rows = -(-len(marks) // columns)
    height = round(picture.height + (rows + 1) * 1.25 * row)
    sheet = Image.new("RGB", (picture.width, height), "white")
    sheet.paste(picture)
    draw = ImageDraw.Draw(sheet)
    for index, mark in enumerate(marks):
        x = row / 2 + index // rows * column
        y = picture.height + row / 2 + index % rows * 1.25 * row
        _tag(draw, str(index + 1), (x, y, x + number, y + row), font, _color(mark))
        draw.text(
            (x + number + row / 2, y + row / 2),
            mark.text,
            fill="black",
            font=_font(font),
            anchor="lm",
        )
    return sheet


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
