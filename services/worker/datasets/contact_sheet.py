"""A data set at a glance: some pictures of each class."""

import io
from collections.abc import Callable
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from shared.dataset_card import DatasetCard, DatasetItem

TILE = 112
COLUMNS = 10
MOST_CLASSES = 12
TEXT = 22
_Box = tuple[float, float, float, float]


def contact_sheet(
    card: DatasetCard, read: Callable[[DatasetItem], NDArray[np.uint8]], *, seed: int = 0
) -> bytes:
    """Draw a row of up to ten pictures a class (of boxes: the faces in them); returns a JPEG.

    ``read`` decodes an item: uint8 RGB ``(H, W, 3)``.
    """
    examples = _examples(card)
    names = card.classes[:MOST_CLASSES]
    more = len(card.classes) - len(names)
    height = len(names) * (TILE + TEXT) + (TEXT if more else 0)
    sheet = Image.new("RGB", (COLUMNS * TILE, height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)
    for row, name in enumerate(names):
        mine = examples.get(name, [])
        top = row * (TILE + TEXT)
        draw.text((4, top + 3), f"{name[:80]}: {len(mine)}", fill="black", font=font)
        chosen = Random(seed).sample(mine, min(COLUMNS, len(mine)))
        for column, (item, box) in enumerate(chosen):
            tile = _tile(read(item), box)
            sheet.paste(tile, (column * TILE, top + TEXT))
    if more:
        draw.text((4, height - TEXT + 3), f"and {more} more classes", fill="black", font=font)
    encoded = io.BytesIO()
    sheet.save(encoded, "JPEG", quality=85)
    return encoded.getvalue()


def _examples(card: DatasetCard) -> dict[str, list[tuple[DatasetItem, _Box | None]]]:
    found: dict[str, list[tuple[DatasetItem, _Box | None]]] = {}
    for item in card.items:
        if item.label is not None:
            found.setdefault(item.label, []).append((item, None))
        for box in item.boxes:
            found.setdefault(box.label, []).append((item, (box.x0, box.y0, box.x1, box.y1)))
    return found


def _tile(picture: NDArray[np.uint8], box: _Box | None) -> Image.Image:
    if box is not None:
        x0, y0, x1, y1 = (max(0, round(value)) for value in box)
        cut = picture[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
        picture = cut if cut.size else picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((TILE - 2, TILE - 2), Image.Resampling.BILINEAR)
    tile = Image.new("RGB", (TILE, TILE), "white")
    tile.paste(image, ((TILE - image.width) // 2, (TILE - image.height) // 2))
    return tile
