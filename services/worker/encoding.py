"""Pictures and figures as bytes: PNG and JPEG, and small ones inside a JSON document."""

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Picture = NDArray[np.uint8]
THUMBNAIL = 192  # longest side, in pixels


def png(picture: Picture | Image.Image, *, compress_level: int = -1) -> bytes:
    """Return a picture, uint8 ``(H, W, 3)``, as a PNG; the level is zlib's, 0 to 9."""
    buffer = io.BytesIO()
    _image(picture).save(buffer, "PNG", compress_level=compress_level)
    return buffer.getvalue()


def jpeg(picture: Picture | Image.Image, *, quality: int = 90) -> bytes:
    """Return a picture, uint8 ``(H, W, 3)``, as a JPEG of a quality from 1 to 95."""
    buffer = io.BytesIO()
    _image(picture).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def figure_png(figure: "Figure") -> bytes:
    """Return a figure as a PNG without the margin around it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()


def thumbnail(picture: Picture | Image.Image, *, side: int = THUMBNAIL) -> str:
    """Return a small JPEG of a few KB as a ``data:`` address, for events."""
    small = _image(picture).copy()
    small.thumbnail((side, side))
    data = base64.b64encode(jpeg(small, quality=70)).decode()
    return f"data:image/jpeg;base64,{data}"


def _image(picture: Picture | Image.Image) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture
    return Image.fromarray(np.ascontiguousarray(picture))
