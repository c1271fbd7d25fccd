"""Where on each face an attack may change pixels: in its crop, or in the photo."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from services.worker.attacks.pipeline import SquareArea
from services.worker.attacks.region import Region
from services.worker.faces.crops import square_around
from services.worker.jobs.attack.inputs import Photo
from services.worker.jobs.kit.faces import Corners
from services.worker.jobs.kit.mask_images import Mask
from shared.problems import Problem
from shared.specs.attack import AttackSpec
from shared.specs.base import Box
from shared.specs.faces import MaskImages

# A mask covers the lower face, cheek to cheek. In mask_segmentation/train its box begins at .51 of
# the face's height and leaves .06 and .08 of the width on its sides (medians of 280 pictures).
MASK_TOP, MASK_SIDE = 0.51, 0.07


def region_of(spec: AttackSpec, photo: Photo, *, size: int, margin: float) -> Tensor:
    """Return where the crops of a photo's faces may change, bool ``(N, size, size)``.

    Raises the problem ``invalid-input`` when that is no pixel of a face's crop.
    """
    if spec.region == "image":
        return torch.ones(len(photo.boxes), size, size, dtype=torch.bool)
    if photo.allowed is not None:
        windows = [_window(photo, box, margin=margin) for box in photo.boxes]
        masks = [_masked(photo.allowed, window, size=size) for window in windows]
        allowed = torch.stack(masks) if masks else torch.ones(0, size, size, dtype=torch.bool)
        if not bool(allowed.flatten(1).any(1).all()):
            raise _no_pixel(spec, photo)
        return allowed
    inside = [_in_crop(spec, photo, box, size=size, margin=margin) for box in photo.boxes]
    try:
        return Region.boxes(inside, height=size, width=size).allowed
    except ValueError as error:
        raise _no_pixel(spec, photo) from error


def region_in_photo(
    spec: AttackSpec,
    photo: Photo,
    number: int,
    *,
    patch: tuple[int, int, int, int],
    squares: Sequence[SquareArea],
) -> Tensor:
    """Return where one face of a photo may change it, bool ``(h, w)`` of the patch.

    ``patch`` ``(x0, y0, x1, y1)`` and ``squares`` ``(x, y, side)``, what the classifier looks at
    for each face, are in pixels of the photo. Where squares overlap, a pixel belongs to the face
    of the nearest center. Raises the problem ``invalid-input`` when no pixel is left.
    """
    x0, y0, x1, y1 = patch
    rows, columns = torch.arange(y0, y1)[:, None], torch.arange(x0, x1)[None]
    allowed = _wanted_of(spec, photo, number, patch)
    own = _distance(squares[number], rows, columns)
    for other, square in enumerate(squares):
        x, y, side = square
        if other == number:
            continue
        inside = (rows >= y) & (rows < y + side) & (columns >= x) & (columns < x + side)
        away = _distance(square, rows, columns)
        allowed &= ~(inside & ((away < own) | ((away == own) & (other < number))))
    if not bool(allowed.any()):
        raise Problem(
            "invalid-input",
            f"The region leaves face {number} of {photo.name} no pixel to change: {_named(spec)}.",
        )
    return allowed


def _wanted_of(
    spec: AttackSpec, photo: Photo, number: int, patch: tuple[int, int, int, int]
) -> Tensor:
    x0, y0, x1, y1 = patch
    allowed = torch.ones(y1 - y0, x1 - x0, dtype=torch.bool)
    if spec.region == "image":
        return allowed
    if photo.allowed is not None:
        return torch.from_numpy(photo.allowed[y0:y1, x0:x1].copy())
    left, top, right, bottom = _in_photo(spec.region, photo.boxes[number])
    rows, columns = torch.arange(y0, y1)[:, None], torch.arange(x0, x1)[None]
    inside = (rows >= round(top)) & (rows < round(bottom))
    return inside & (columns >= round(left)) & (columns < round(right))


def _distance(square: SquareArea, rows: Tensor, columns: Tensor) -> Tensor:
    """Return squared distances of pixels to a square's center, doubled to stay whole numbers."""
    x, y, side = square
    return (2 * rows + 1 - 2 * y - side) ** 2 + (2 * columns + 1 - 2 * x - side) ** 2


def _window(photo: Photo, face: Corners, *, margin: float) -> Corners:
    """Return which part of the photo a face's crop shows, ``(x, y, width, height)``."""
    if photo.whole:  # the crop is the whole photo, stretched
        return face[0], face[1], face[2] - face[0], face[3] - face[1]
    x, y, side = square_around(face, margin)
    return float(x), float(y), float(side), float(side)


def _in_crop(spec: AttackSpec, photo: Photo, face: Corners, *, size: int, margin: float) -> Corners:
    left, top, width, height = _window(photo, face, margin=margin)
    x0, y0, x1, y1 = _in_photo(spec.region, face)
    return (
        (x0 - left) / width * size,
        (y0 - top) / height * size,
        (x1 - left) / width * size,
        (y1 - top) / height * size,
    )


def _masked(allowed: Mask, window: Corners, *, size: int) -> Tensor:
    """Look up the pixel of the photo in the middle of each of the crop's, bool ``(size, size)``.

    What lies beyond the photo's edge may not change.
    """
    x, y, wide, high = window
    middles = (np.arange(size) + 0.5) / size
    columns, rows = (
        np.floor(x + middles * wide).astype(int),
        np.floor(y + middles * high).astype(int),
    )
    height, width = allowed.shape
    inside = ((rows >= 0) & (rows < height))[:, None] & (columns >= 0) & (columns < width)
    seen = allowed[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)]
    return torch.from_numpy(seen & inside)


def _no_pixel(spec: AttackSpec, photo: Photo) -> Problem:
    said = f"The region covers no pixel of a face of {photo.name}: {_named(spec)}."
    return Problem("invalid-input", said)


def _named(spec: AttackSpec) -> str:
    return "its mask image" if isinstance(spec.region, MaskImages) else str(spec.region)


def _in_photo(region: str | Box | MaskImages, face: Corners) -> Corners:
    if isinstance(region, Box):
        return region.x, region.y, region.x + region.width, region.y + region.height
    if region == "face":
        return face
    x0, y0, x1, y1 = face
    side, top = MASK_SIDE * (x1 - x0), MASK_TOP * (y1 - y0)
    return x0 + side, y0 + top, x1 - side, y1
