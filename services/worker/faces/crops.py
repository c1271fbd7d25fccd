"""Square face crops: one function for training and for serving."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Pixels = NDArray[np.uint8]
MAX_PADDED_SIDE = 4096


def square_around(box: tuple[float, float, float, float], margin: float) -> tuple[int, int, int]:
    """Return ``(x, y, side)`` of the square around a box ``(x0, y0, x1, y1)``.

    Its side is the box's longer side with ``margin`` times that side added on each side.
    """
    x0, y0, x1, y1 = box
    side = max(x1 - x0, y1 - y0) * (1 + 2 * margin)
    whole = max(1, round(side))
    return round((x0 + x1 - side) / 2), round((y0 + y1 - side) / 2), whole


def crop_face(
    image: Pixels, box: tuple[float, float, float, float], *, size: int, margin: float
) -> Tensor:
    """Cut one face to a float tensor ``(3, size, size)`` in [0, 1].

    ``image`` is uint8 RGB ``(H, W, 3)``. Where the square leaves the photo, the edge is repeated.
    Resizing is bilinear with antialiasing. A square that leaves the photo and has a side of over
    ``MAX_PADDED_SIDE`` is padded at that side: what a box takes is bounded by its photo.
    """
    x, y, side = square_around(box, margin)
    height, width = image.shape[:2]
    inside = x >= 0 and y >= 0 and x + side <= width and y + side <= height
    if not inside and side > MAX_PADDED_SIDE:
        return resize(_padded_small(image, x, y, side), size)
    columns = np.clip(np.arange(x, x + side), 0, width - 1)
    rows = np.clip(np.arange(y, y + side), 0, height - 1)
    crop = image[y : y + side, x : x + side] if inside else image[rows[:, None], columns]
    return resize(crop, size)


def _padded_small(image: Pixels, x: int, y: int, side: int) -> Pixels:
    """Reduce the part of a photo in a large square, then pad it to the square as reduced."""
    height, width = image.shape[:2]
    left, top = min(max(0, x), width - 1), min(max(0, y), height - 1)
    part = image[top : max(top + 1, y + side), left : max(left + 1, x + side)]
    scale = MAX_PADDED_SIDE / side
    size = (max(1, round(part.shape[0] * scale)), max(1, round(part.shape[1] * scale)))
    tensor = torch.from_numpy(np.require(part, requirements=["C", "W"])).permute(2, 0, 1)[None]
    small = functional.interpolate(
        tensor, size, mode="bilinear", antialias=True, align_corners=False
    )[0]
    first_row, first_column = round((y - top) * scale), round((x - left) * scale)
    rows = np.clip(np.arange(first_row, first_row + MAX_PADDED_SIDE), 0, size[0] - 1)
    columns = np.clip(np.arange(first_column, first_column + MAX_PADDED_SIDE), 0, size[1] - 1)
    padded: Pixels = small.permute(1, 2, 0).numpy()[rows[:, None], columns]
    return padded


def resize(image: Pixels, size: int) -> Tensor:
    """Resize uint8 RGB ``(H, W, 3)`` to a float tensor ``(3, size, size)`` in [0, 1]."""
    tensor = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)[None]
    if tensor.shape[-2:] != (size, size):
        # The uint8 kernel with antialiasing is several times faster than the float one.
        tensor = functional.interpolate(
            tensor, (size, size), mode="bilinear", antialias=True, align_corners=False
        )
    return tensor[0].float() / 255


def crop_faces(
    image: Pixels,
    boxes: list[tuple[float, float, float, float]],
    *,
    size: int,
    margin: float,
) -> Tensor:
    """Cut several faces to a float tensor ``(N, 3, size, size)`` in [0, 1]."""
    if not boxes:
        return torch.empty(0, 3, size, size)
    return torch.stack([crop_face(image, box, size=size, margin=margin) for box in boxes])
