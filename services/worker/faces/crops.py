"""Square face crops: one function for training and for serving."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Pixels = NDArray[np.uint8]


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
    Resizing is bilinear with antialiasing.
    """
    x, y, side = square_around(box, margin)
    height, width = image.shape[:2]
    columns = np.clip(np.arange(x, x + side), 0, width - 1)
    rows = np.clip(np.arange(y, y + side), 0, height - 1)
    inside = x >= 0 and y >= 0 and x + side <= width and y + side <= height
    crop = image[y : y + side, x : x + side] if inside else image[rows[:, None], columns]
    return resize(crop, size)


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
