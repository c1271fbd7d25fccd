"""The people who wear a design in training and in evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.worker.faces.alignment import FRAME, align, cut_frame
from services.worker.faces.crops import Pixels
from services.worker.faces.face import Face
from services.worker.masks.projector import fit
from services.worker.models.recognizers import Recognizer

EMBEDDED_AT_ONCE = 64


@dataclass(frozen=True)
class Wearers:
    """Aligned faces of people, and how a mask sits on each.

    ``frames`` is uint8 ``(N, 160, 160, 3)`` and may be a memory map: only the faces of one batch
    are read. ``fits`` is ``(N, 13, 2)``; ``people`` holds numbers ``(N,)`` into ``names``.
    """

    frames: NDArray[np.uint8]
    fits: Tensor
    people: Tensor
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.frames) == len(self.fits) == len(self.people):
            raise ValueError("frames, fits and people are not equally many")

    def __len__(self) -> int:
        return len(self.people)

    def faces(
        self, chosen: Sequence[int] | Tensor | NDArray[np.int64], side: int = FRAME
    ) -> Tensor:
        """Return the inner parts of some frames, float ``(B, 3, side, side)`` in [0, 1]."""
        margin = (FRAME - side) // 2
        which = [int(index) for index in chosen]
        inner = self.frames[which, margin : margin + side, margin : margin + side]
        return torch.from_numpy(np.ascontiguousarray(inner.transpose(0, 3, 1, 2))).float() / 255

    def of(self, chosen: Sequence[int]) -> "Wearers":
        """Return the photos with these numbers; people keep their numbers."""
        which = list(chosen)
        return Wearers(self.frames[which], self.fits[which], self.people[which], self.names)


def aligned_wearer(photo: Pixels, face: Face) -> tuple[Pixels, NDArray[np.float64]]:
    """Return a face's frame and its five points in it, ``(5, 2)``."""
    alignment = align(face.landmarks)
    linear, shift = alignment.to_frame[:, :2], alignment.to_frame[:, 2]
    return cut_frame(photo, alignment), np.asarray(face.landmarks @ linear.T + shift)


def gather(found: Sequence[tuple[str, Pixels, NDArray[np.floating]]]) -> Wearers:
    """Make wearers of ``(person, frame, points)``; people are numbered by their names.

    Raises ``ValueError`` for none.
    """
    if not found:
        raise ValueError("no face was found in any photo")
    names = tuple(sorted({name for name, _, _ in found}))
    number = {name: index for index, name in enumerate(names)}
    return Wearers(
        np.stack([frame for _, frame, _ in found]),
        fit(np.stack([points for _, _, points in found])),
        torch.tensor([number[name] for name, _, _ in found]),
        names,
    )


@torch.inference_mode()
def gallery(wearers: Wearers, recognizer: Recognizer) -> Tensor:
    """Return each person's mean embedding on clean photos, ``(P, D)``, of length 1."""
    side = recognizer.input_size[0]
    device = next(recognizer.parameters()).device
    sums: Tensor | None = None
    for start in range(0, len(wearers), EMBEDDED_AT_ONCE):
        which = range(start, min(start + EMBEDDED_AT_ONCE, len(wearers)))
        embeddings = recognizer.of_frames(wearers.faces(which, side).to(device)).cpu()
        if sums is None:
            sums = torch.zeros(len(wearers.names), embeddings.shape[1])
        sums.index_add_(0, wearers.people[list(which)], embeddings)
    if sums is None:
        raise ValueError("nobody to embed")
    return torch.nn.functional.normalize(sums).clone()
