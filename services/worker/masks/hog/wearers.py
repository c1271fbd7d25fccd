"""Photos of people who wear a pattern: where their faces are, and how well dlib sees them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from services.worker.faces.boxes import SAME_FACE, overlaps
from services.worker.masks.hog.detector import Box, Picture, checked, detect

SEARCH_SIDE = 1024  # pixels of the longer side in which a photo's face is looked for
MARGIN = 0.75  # of the box's side, what is kept around it


@dataclass(frozen=True)
class Wearer:
    """The part of a photo around a face, with the face at the largest size looked at.

    ``box`` is dlib's, in pixels of ``picture``; ``sizes`` are sides of the box in pixels;
    ``photo`` counts from 0 the photos given.
    """

    photo: int
    picture: Picture
    box: Box
    sizes: tuple[int, ...]


def find_wearers(
    photos: Sequence[Picture], sizes: Sequence[int], upsample: int
) -> tuple[Wearer, ...]:
    """Return those whose faces dlib finds, each with the sizes at which it does."""
    wearers = []
    for number, photo in enumerate(photos):
        box = find_face(photo)
        if box is None:
            continue
        picture, box = _part_around(photo, box, max(sizes))
        found = [
            size
            for size in sizes
            if wearer_score(*sized_to(picture, box, size), -1.0, upsample) > 0
        ]
        if found:
            wearers.append(Wearer(number, picture, box, tuple(found)))
    return tuple(wearers)


def find_face(photo: Picture) -> Box | None:
    """Return the largest face that dlib finds on a photo, uint8 ``(H, W, 3)``, if it finds one.

    Faces of 40 pixels and more are found on photos of up to 1024 pixels; larger photos are reduced
    to that. Raises ``ValueError`` for what is no picture.
    """
    if photo.ndim == 3 and max(photo.shape[:2]) > SEARCH_SIDE:
        scale = SEARCH_SIDE / max(photo.shape[:2])
        small = _resized(photo, scale)
    else:
        scale, small = 1.0, photo
    found = detect(checked(small), upsample=1)
    if not len(found):
        return None
    areas = (found.boxes[:, 2] - found.boxes[:, 0]) * (found.boxes[:, 3] - found.boxes[:, 1])
    left, top, right, bottom = found.boxes[int(areas.argmax())] / scale
    return float(left), float(top), float(right), float(bottom)


def sized_to(picture: Picture, box: Box, size: int) -> tuple[Picture, Box]:
    """Return a picture and its box with the box's side at ``size`` pixels."""
    scale = size / (box[2] - box[0])
    if scale == 1:
        return picture, box
    left, top, right, bottom = (scale * side for side in box)
    return _resized(picture, scale), (left, top, right, bottom)


def wearer_score(picture: Picture, box: Box, floor: float, upsample: int) -> float:
    """Return the best score of a window that is on the face, ``floor`` where none reaches it."""
    found = detect(picture, threshold=floor, upsample=upsample)
    on_face = overlaps(found.boxes, box) >= SAME_FACE
    return float(found.scores[on_face].max(initial=floor))


def _part_around(photo: Picture, box: Box, size: int) -> tuple[Picture, Box]:
    """Cut a face out with some surroundings, its box ``size`` pixels wide."""
    left, top, right, bottom = box
    margin = MARGIN * (right - left)
    x0, y0 = max(0, round(left - margin)), max(0, round(top - margin))
    x1 = min(photo.shape[1], round(right + margin))
    y1 = min(photo.shape[0], round(bottom + margin))
    part = np.ascontiguousarray(photo[y0:y1, x0:x1])
    return sized_to(part, (left - x0, top - y0, right - x0, bottom - y0), size)


def _resized(picture: Picture, scale: float) -> Picture:
    height, width = picture.shape[:2]
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
