"""Faces that a computer drew: a data set small enough to train on in a demo or a test."""

import io
import zipfile
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

SIDE = 64
Color = tuple[int, int, int]

# Where a mask begins and ends, as shares of the face's height; None: there is none.
WEARING: Mapping[str, tuple[float, float] | None] = {
    "with_mask": (0.48, 1.0),
    "without_mask": None,
    "mask_weared_incorrect": (0.76, 1.05),
}


def drawn_face(wearing: str, random: np.random.Generator) -> Image.Image:
    """Draw a face of random proportions and colors that wears its mask like that."""
    scale = 4
    picture = Image.new("RGB", (SIDE * scale, SIDE * scale), _color(random, 30, 230))
    draw = ImageDraw.Draw(picture)
    for _ in range(6):  # something behind it, so that no two pictures look alike
        x, y = random.uniform(0, SIDE * scale, 2)
        reach = random.uniform(10, 45) * scale / 2
        draw.rectangle((x - reach, y - reach, x + reach, y + reach), _color(random, 0, 255))
    width, height = random.uniform(32, 46) * scale, random.uniform(44, 58) * scale
    left = random.uniform(2, SIDE - 2 - width / scale) * scale
    top = random.uniform(2, SIDE - 2 - height / scale) * scale
    skin = _skin(random)
    hair = _color(random, 10, 120)
    box = (left, top, left + width, top + height)
    draw.ellipse((left - 6, top - 12, left + width + 6, top + height * 0.7), hair)
    draw.ellipse(box, skin)
    middle, eye = left + width / 2, height * 0.035
    for side in (-1, 1):
        x, y = middle + side * width * 0.2, top + height * 0.38
        draw.ellipse((x - 2 * eye, y - eye, x + 2 * eye, y + eye), (245, 245, 245))
        draw.ellipse((x - eye, y - eye, x + eye, y + eye), (30, 30, 30))
    y = top + height * 0.6
    draw.line((middle, top + height * 0.42, middle - eye, y, middle + eye, y), (90, 50, 40), 5)
    y = top + height * 0.78
    draw.line((middle - width * 0.18, y, middle + width * 0.18, y), (160, 50, 60), 10)
    worn = WEARING[wearing]
    if worn is not None:
        _draw_mask(draw, box, worn, _color(random, 120, 255))
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _draw_mask(
    draw: ImageDraw.ImageDraw,
    box: tuple[float, float, float, float],
    worn: tuple[float, float],
    color: Color,
) -> None:
    left, top, right, bottom = box
    height, inset = bottom - top, (right - left) * 0.06
    upper, lower = top + worn[0] * height, top + worn[1] * height
    middle = (left + right) / 2
    corners = [(left + inset, upper), (middle, upper - height * 0.06), (right - inset, upper)]
    corners += [(right - 3 * inset, lower), (left + 3 * inset, lower)]
    draw.polygon(corners, color)
    darker = (color[0] * 3 // 4, color[1] * 3 // 4, color[2] * 3 // 4)
    for share in (0.35, 0.6):
        y = upper + share * (lower - upper)
        draw.line((left + 2 * inset, y, right - 2 * inset, y), darker, 5)


def _color(random: np.random.Generator, low: int, high: int) -> Color:
    red, green, blue = random.integers(low, high, 3).tolist()
    return red, green, blue


def _skin(random: np.random.Generator) -> Color:
    tone = random.uniform(0.35, 1.0)
    return round(235 * tone), round(190 * tone), round(160 * tone)


def drawn_archive(classes: tuple[str, ...], *, each: int, seed: int = 0) -> bytes:
    """Return a ZIP with a folder a class and ``each`` faces in it."""
    random = np.random.default_rng(seed)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in classes:
            for number in range(each):
                data = io.BytesIO()
                drawn_face(name, random).save(data, "PNG")
                archive.writestr(f"{name}/{number:03}.png", data.getvalue())
    return buffer.getvalue()
