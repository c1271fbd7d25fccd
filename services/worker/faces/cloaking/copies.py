"""Copies of a face as others may get them, differentiable: what a cloak is made to survive."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from services.worker.faces.alignment import FRAME
from services.worker.faces.cloaking.changes import blur, jpeg, move, random_maps

SMALLEST_COPY = 16  # side in pixels of the smallest copy of a photo's face
JPEG_REACH = 2.5  # photo pixels a frame pixel; over it JPEG's blocks are finer than the frame
KINDS = 4
BLUR = 1.2  # largest sigma in photo pixels, at strength 1


def as_shared(
    faces: Tensor,
    scales: Sequence[float],
    generators: Sequence[torch.Generator],
    strength: float,
    step: int,
) -> Tensor:
    """Return frames ``(N, 3, 160, 160)`` cropped a bit off, and by turns coded, blurred, reduced.

    ``scales`` are photo pixels a frame pixel. Each face draws from its own generator. At
    ``strength`` 0 nothing happens.
    """
    if strength == 0:
        return faces
    kind = step % KINDS
    if kind in (1, 3):
        change = _coded if kind == 1 else _reduced
        faces = torch.stack(
            [
                change(face, scale, strength, generator)
                for face, scale, generator in zip(faces, scales, generators, strict=True)
            ]
        )
    elif kind == 2:
        sigmas = [
            float(torch.rand(1, generator=generator)) * BLUR * strength / max(0.5, scale)
            for scale, generator in zip(scales, generators, strict=True)
        ]
        faces = blur(faces, sigmas)
    return move(faces, random_maps(generators, strength).to(faces))


def _coded(face: Tensor, scale: float, strength: float, generator: torch.Generator) -> Tensor:
    """Return a face as in a JPEG, on the photo's own grid; of any quality at any strength."""
    del strength
    quality = int(torch.randint(60, 96, (1,), generator=generator))
    if scale > JPEG_REACH:
        return face
    side = max(SMALLEST_COPY, round(FRAME * scale))
    copy = jpeg(_sized(face, side), quality)
    return _sized(copy[0], FRAME)[0]


def _reduced(face: Tensor, scale: float, strength: float, generator: torch.Generator) -> Tensor:
    """Return a face as in a copy of the photo with down to half its size."""
    share = 1 - 0.5 * strength * float(torch.rand(1, generator=generator))
    side = max(SMALLEST_COPY, round(FRAME * scale * share))
    if side >= FRAME:  # it still has more pixels than the frame
        return face
    return _sized(_sized(face, side)[0], FRAME)[0]


def _sized(face: Tensor, side: int) -> Tensor:
    if face.shape[-1] == side:
        return face[None]
    return functional.interpolate(face[None], (side, side), mode="bilinear", antialias=True)
