"""Uploaded pictures that mark a part of a photo."""

import numpy as np
from numpy.typing import NDArray

from services.worker.faces.crops import Pixels
from services.worker.runtime.context import JobContext
from shared.problems import Problem
from shared.specs.base import ImagesSpec

Mask = NDArray[np.bool_]


def read_mask(context: JobContext, spec: ImagesSpec, name: str, photo: Pixels, *, of: str) -> Mask:
    """Return where the mask image ``name`` of the photo ``of`` is not black, bool ``(H, W)``.

    Raises ``invalid-input`` when it is all black or not of the photo's size.
    """
    mask = context.inputs.image(spec.image_ids.index(name))
    if mask.shape != photo.shape:
        (height, width), (high, wide) = mask.shape[:2], photo.shape[:2]
        raise Problem(
            "invalid-input",
            f"The mask image {name} is {width} x {height} pixels, and its photo {of} "
            f"{wide} x {high}: they must be of one size.",
        )
    marked: Mask = np.asarray(mask.any(2))
    if not marked.any():
        raise Problem("invalid-input", f"The mask image {name} is all black: it marks no pixel.")
    return marked
