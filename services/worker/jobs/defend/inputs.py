"""What a ``defend`` job reads: the faces of its photos, cut, and their parts of a mask image."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from services.worker.defenses.pixels import to_grid
from services.worker.faces.crops import Pixels
from services.worker.jobs.kit.faces import Corners, Located, cut, locate
from services.worker.jobs.kit.mask_images import Mask, read_mask
from services.worker.models.registry import LoadedModel
from services.worker.runtime.context import JobContext
from shared.problems import Problem
from shared.specs.defend import DefendSpec

CARVED_FROM = 2  # seams are carved from faces cut at twice the classifier's input
MASK_SIDE = 512  # in pixels, of a face's part of a mask image; as large as a face is ever cut


@dataclass(frozen=True)
class Faces:
    """The faces of a photo of ``size`` (width, height).

    ``cut``: float ``(N, 3, S, S)`` on the 8-bit grid, as they are defended; ``seen``: as the
    classifier takes them. ``kept``: their parts of the mask image, float ``(N, 1, M, M)``.
    """

    size: tuple[int, int]
    located: Located
    cut: Tensor
    seen: Tensor
    kept: Tensor | None


def read_faces(context: JobContext, spec: DefendSpec, loaded: LoadedModel, index: int) -> Faces:
    """Decode a photo and cut its faces; raises ``invalid-input`` for a mask that marks none."""
    photo = context.inputs.image(index)
    located = locate(context, spec, index, photo)
    height, width = photo.shape[:2]
    size, margin = cut_size(spec, loaded), loaded.card.crop_margin
    faces = to_grid(cut(spec, photo, located.boxes, size=size, margin=margin))
    # At the size that the classifier sees and the threshold was set at, whatever is carved.
    inner = loaded.classifier.input_size[0]
    seen = faces
    if len(faces) and size != inner:
        seen = to_grid(cut(spec, photo, located.boxes, size=inner, margin=margin))
    kept = None
    if len(faces):
        kept = _marked_parts(context, spec, index, photo, located.boxes, margin=margin)
    return Faces((width, height), located, faces, seen, kept)


def cut_size(spec: DefendSpec, loaded: LoadedModel) -> int:
    """Return the side at which faces are cut, in pixels."""
    if spec.cut_size is not None:
        return spec.cut_size
    carves = any(step.name == "seam_carving" for step in spec.defenses)
    return loaded.classifier.input_size[0] * (CARVED_FROM if carves else 1)


def _marked_parts(
    context: JobContext,
    spec: DefendSpec,
    index: int,
    photo: Pixels,
    boxes: list[Corners],
    *,
    margin: float,
) -> Tensor | None:
    """Return what each cut face shows of its photo's mask image, float ``(N, 1, S, S)``.

    Raises the problem ``invalid-input`` when that is nothing of any face.
    """
    if spec.protect is None:
        return None
    name = spec.protect.of(index)
    mask: Mask = read_mask(context, spec, name, photo, of=spec.images[index])
    picture = np.repeat(mask[:, :, None], 3, axis=2).astype(np.uint8) * 255
    parts = cut(spec, picture, boxes, size=MASK_SIDE, margin=margin)[:, :1]
    if not bool((parts > 0).any()):
        raise Problem(
            "invalid-input",
            f"The mask image {name} marks no pixel of a face of {spec.images[index]}: there is "
            "nothing to protect.",
        )
    return parts
