"""The contact sheet of errors shows what went wrong, the surest first."""

import io

import numpy as np
import torch
from PIL import Image

from services.worker.evaluation.pictures import COLUMNS, TEXT, TILE, draw_errors

NAMES = ("with_mask", "without_mask")


def tile(sheet: Image.Image, place: int) -> tuple[int, ...]:
    """Return the mean color of the inner part of a picture on the sheet."""
    left, top = place % COLUMNS * (TILE + 4), place // COLUMNS * (TILE + TEXT)
    inner = sheet.crop((left + 8, top + 8, left + TILE - 8, top + TILE - 8))
    return tuple(np.asarray(inner).reshape(-1, 3).mean(0).round().astype(int))


def test_wrong_answers_stand_worst_first_and_right_ones_not_at_all() -> None:
    levels = (30, 90, 150, 210)
    images = torch.stack([torch.full((3, 8, 8), level, dtype=torch.uint8) for level in levels])
    of_first = np.array([0.9, 0.4, 0.05, 0.3])
    probabilities = np.stack([of_first, 1 - of_first], 1)
    labels = np.zeros(4, dtype=np.int64)  # the first is right; the third is furthest from it

    encoded = draw_errors(images, probabilities, labels, NAMES)

    assert encoded is not None
    sheet = Image.open(io.BytesIO(encoded)).convert("RGB")
    seen = [round(np.mean(tile(sheet, place))) for place in range(3)]
    assert all(abs(a - b) <= 3 for a, b in zip(seen, (150, 210, 90), strict=True))
    assert tile(sheet, 3) == (255, 255, 255)


def test_where_all_is_right_there_is_no_sheet() -> None:
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    assert draw_errors(images, np.array([[0.9, 0.1]]), np.array([0]), NAMES) is None
