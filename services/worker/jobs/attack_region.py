"""Where on each face an attack may change pixels: in its crop, or in the photo."""

from collections.abc import Sequence

import torch
from torch import Tensor

from services.worker.attacks.pipeline import Square
from services.worker.attacks.region import Region
from services.worker.faces.crops import square_around
from services.worker.jobs.attack_photos import Photo
from services.worker.jobs.locating import Corners
from shared.problems import Problem
from shared.specs.attack import AttackSpec
from shared.specs.base import Box

# A mask covers the lower face, cheek to cheek. In mask_segmentation/train its box begins at .51 of
# the face's height and leaves .06 and .08 of the width on its sides (medians of 280 pictures).
MASK_TOP, MASK_SIDE = 0.51, 0.07


def region_of(spec: AttackSpec, photo: Photo, *, size: int, margin: float) -> Tensor:
    """Return where the crops of a photo's faces may change, bool ``(N, size, size)``.

    Raises the problem ``invalid-input`` when that is no pixel of a face's crop.
    """
    if spec.region == "image":
        return torch.ones(len(photo.boxes), size, size, dtype=torch.bool)
    inside = [_in_crop(spec, photo, box, size=size, margin=margin) for box in photo.boxes]
    try:
        return Region.boxes(inside, height=size, width=size).allowed
    except ValueError as error:
        raise Problem(
            "invalid-input", f"The region covers no pixel of a face: {spec.region}."
        ) from error


def region_in_photo(
    spec: AttackSpec,
    photo: Photo,
    number: int,
    *,
    patch: tuple[int, int, int, int],
    squares: Sequence[Square],
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
            f"The region leaves face {number} of {photo.name} no pixel to change: {spec.region}.",
        )
    return allowed


def _wanted_of(
    spec: AttackSpec, photo: Photo, number: int, patch: tuple[int, int, int, int]
) -> Tensor:
    x0, y0, x1, y1 = patch
    allowed = torch.ones(y1 - y0, x1 - x0, dtype=torch.bool)
    if spec.region == "image":
        return allowed
    left, top, right, bottom = _in_photo(spec.region, photo.boxes[number])
    rows, columns = torch.arange(y0, y1)[:, None], torch.arange(x0, x1)[None]
    inside = (rows >= round(top)) & (rows < round(bottom))
    return inside & (columns >= round(left)) & (columns < round(right))


def _distance(square: Square, rows: Tensor, columns: Tensor) -> Tensor:
    """Return squared distances of pixels to a square's center, doubled to stay whole numbers."""
    x, y, side = square
    return (2 * rows + 1 - 2 * y - side) ** 2 + (2 * columns + 1 - 2 * x - side) ** 2


def _in_crop(spec: AttackSpec, photo: Photo, face: Corners, *, size: int, margin: float) -> Corners:
    wanted = _in_photo(spec.region, face)
    if photo.whole:  # the crop is the whole photo, stretched
        width, height = face[2] - face[0], face[3] - face[1]
        left, top = face[:2]
    else:
        left, top, side = (float(value) for value in square_around(face, margin))
        width = height = side
    x0, y0, x1, y1 = wanted
    return (
        (x0 - left) / width * size,
        (y0 - top) / height * size,
        (x1 - left) / width * size,
        (y1 - top) / height * size,
    )


def _in_photo(region: str | Box, face: Corners) -> Corners:
    if isinstance(region, Box):
        return region.x, region.y, region.x + region.width, region.y + region.height
    if region == "face":
        return face
    x0, y0, x1, y1 = face
    side, top = MASK_SIDE * (x1 - x0), MASK_TOP * (y1 - y0)
    return x0 + side, y0 + top, x1 - side, y1
