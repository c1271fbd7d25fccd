"""The face that the patterns are made of: drawn here, and as the strokes of its HOG."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Gray = NDArray[np.uint8]

# The side of the sprite is 12 cells of 12 pixels: of the sizes tried (6 to 16 pixels, 10 and 12
# cells) dlib scores its strokes highest.
CELL = 12
CELLS = 12
ANGLES = 9
_FINE = 4  # times as large the face is drawn before it is blurred and reduced
_DARK = 20


def draw_face(side: int) -> Gray:
    """Draw a face on a dark ground, ``(side, side)``; dlib scores it about 2.7 at 200 pixels."""
    n = _FINE * side
    image = Image.new("L", (n, n), _DARK)
    draw = ImageDraw.Draw(image)

    def ellipse(x: float, y: float, half_width: float, half_height: float, light: int) -> None:
        corners = (x - half_width, y - half_height, x + half_width, y + half_height)
        draw.ellipse(tuple(n * corner for corner in corners), fill=light)

    ellipse(0.5, 0.5, 0.36, 0.46, 190)
    for sign in (-1, 1):
        eye = 0.5 + sign * 0.16
        ellipse(eye, 0.36, 0.09, 0.025, 60)  # brow
        ellipse(eye, 0.44, 0.085, 0.04, 110)
        ellipse(eye, 0.44, 0.04, 0.035, 20)
    nose = ((0.47, 0.45), (0.53, 0.45), (0.56, 0.62), (0.44, 0.62))
    draw.polygon([(n * x, n * y) for x, y in nose], fill=215)
    for sign in (-1, 1):
        ellipse(0.5 + sign * 0.045, 0.63, 0.03, 0.018, 70)  # nostril
    ellipse(0.5, 0.76, 0.14, 0.035, 70)
    soft = image.filter(ImageFilter.GaussianBlur(n / 100))
    return np.asarray(soft.resize((side, side), Image.Resampling.BOX))


def hog_strokes(gray: Gray, *, cell: int = CELL, angles: int = ANGLES) -> Gray:
    """Draw the histogram of oriented gradients of a gray picture (Dalal and Triggs 2005).

    In each cell of ``cell`` pixels a white stroke for each of ``angles`` directions of an edge, as
    bright as the root of that edge's weight; the picture is cut to whole cells.
    """
    rows, columns = gray.shape[0] // cell, gray.shape[1] // cell
    light = gray[: rows * cell, : columns * cell].astype(np.float64)
    down, across = np.gradient(light)
    weight = np.hypot(down, across)
    # An edge runs across its gradient; both ends of it are the same edge.
    angle = (np.arctan2(down, across) + np.pi / 2) % np.pi
    numbers = (angle / np.pi * angles).astype(int).clip(0, angles - 1)
    histogram = np.zeros((rows, columns, angles))
    for number in range(angles):
        part = np.where(numbers == number, weight, 0)
        histogram[..., number] = part.reshape(rows, cell, columns, cell).mean((1, 3))
    histogram = np.sqrt(histogram / max(histogram.max(), 1e-9))
    strokes = np.stack([_stroke(cell, np.pi * (k + 0.5) / angles) for k in range(angles)])
    cells = (histogram[..., None, None] * strokes).max(2)
    pixels = 255 * cells.swapaxes(1, 2).reshape(rows * cell, columns * cell)
    drawn: Gray = np.rint(pixels).astype(np.uint8)
    return drawn


def _stroke(cell: int, angle: float) -> NDArray[np.float64]:
    """Draw a line through the middle of a cell, ``(cell, cell)`` in [0, 1]."""
    n = _FINE * cell
    image = Image.new("L", (n, n))
    x, y = 0.5 * n * np.cos(angle), 0.5 * n * np.sin(angle)
    ends = ((n / 2 - x, n / 2 - y), (n / 2 + x, n / 2 + y))
    ImageDraw.Draw(image).line(ends, fill=255, width=_FINE)
    return np.asarray(image.resize((cell, cell), Image.Resampling.BOX), dtype=np.float64) / 255


@cache
def face_sprite() -> Gray:
    """Return the strokes of the drawn face, ``(144, 144)``, on black."""
    sprite = hog_strokes(draw_face(CELL * CELLS))
    sprite.setflags(write=False)
    return sprite
