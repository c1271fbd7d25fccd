"""Which faces of a photo a job means."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from services.worker.faces.crops import Pixels, crop_faces, resize
from services.worker.faces.detection import Searched, Turns
from services.worker.jobs.kit.budget import FLOAT_BYTES
from services.worker.jobs.kit.models import face_detector
from services.worker.runtime.context import JobContext
from services.worker.runtime.memory import require
from shared.problems import Problem
from shared.results.base import FacesSearched
from shared.specs.base import Box
from shared.specs.faces import FacesSpec

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Located:
    """Faces of one photo: boxes in its pixels, and the finder's scores (``None``: given).

    ``turns`` counts, for each face, the quarter turns against the clock that set it upright
    (empty: all are). ``searched`` tells which faces were searched (``None``: no finder was needed).
    """

    boxes: list[Corners]
    scores: list[float | None]
    turns: list[int] = field(default_factory=list)
    searched: Searched | None = None


def locate(context: JobContext, spec: FacesSpec, index: int, image: Pixels) -> Located:
    """Return the faces of image ``index``; raises ``invalid-input`` for a box outside of it."""
    located = given(spec, index, image)
    # What works on crops as they lie in the photo needs faces that stand upright there.
    return located or search(context, [image], min_face=spec.min_face, turns="none")[0]


def search(
    context: JobContext, images: Sequence[Pixels], *, min_face: float, turns: Turns
) -> list[Located]:
    """Return the faces that the finder finds in several photos."""
    finder = face_detector(context.models, context.device)
    return [
        Located(
            [face.box for face in found.faces],
            [face.score for face in found.faces],
            [face.turn for face in found.faces],
            found.searched,
        )
        for found in finder.search_all(images, min_face=min_face, turns=turns, exact=False)
    ]


def given(spec: FacesSpec, index: int, image: Pixels) -> Located | None:
    """Return the faces that the spec itself gives; ``None``: they have to be found.

    Raises ``invalid-input`` for a box outside of the image.
    """
    height, width = image.shape[:2]
    if spec.faces == "whole":
        return Located([(0.0, 0.0, float(width), float(height))], [None])
    if spec.boxes is None:
        return None
    boxes = [_inside(box, width, height, index) for box in spec.boxes[index]]
    return Located(boxes, [None] * len(boxes))


def cut(
    spec: FacesSpec, image: Pixels, boxes: list[Corners], *, size: int, margin: float
) -> Tensor:
    """Cut the faces to a float tensor ``(N, 3, size, size)`` in [0, 1]."""
    if spec.faces == "whole":
        return resize(image, size)[None]
    require_crops(len(boxes), size=size)
    return crop_faces(image, boxes, size=size, margin=margin)


def require_crops(number: int, *, size: int) -> None:
    """Raise ``too-much-memory`` for more faces at once than the service gives a job."""
    require(number * 3 * size**2 * FLOAT_BYTES, f"{number} faces of {size} x {size} pixels")


def set_upright(crops: Tensor, turns: Sequence[int]) -> Tensor:
    """Turn square crops ``(N, 3, S, S)`` by so many quarters against the clock each."""
    if not any(turns):
        return crops
    turned = [torch.rot90(crop, turn, (1, 2)) for crop, turn in zip(crops, turns, strict=True)]
    return torch.stack(turned)


def as_searched(searched: Searched) -> FacesSearched:
    """Return what was searched as results show it."""
    return FacesSearched(
        smallest=round(searched.smallest, 1), turned=tuple(90 * turn for turn in searched.turns)
    )


def as_box(corners: Corners) -> Box:
    """Return corners as results show them."""
    x0, y0, x1, y1 = corners
    return Box(x=round(x0, 2), y=round(y0, 2), width=round(x1 - x0, 2), height=round(y1 - y0, 2))


def _inside(box: Box, width: int, height: int, index: int) -> Corners:
    x0, y0 = max(0.0, box.x), max(0.0, box.y)
    x1, y1 = min(float(width), box.x + box.width), min(float(height), box.y + box.height)
    if x1 - x0 < 1 or y1 - y0 < 1:
        detail = f"A box given for image {index} lies outside its {width} x {height} pixels."
        raise Problem("invalid-input", detail)
    return x0, y0, x1, y1
