"""The people who wear a design in training and in evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from services.worker.faces.alignment import FRAME, align, cut_frame
from services.worker.faces.crops import Pixels
from services.worker.faces.face import Face
from services.worker.masks.cnn_projector import LEAST_SHARE, SIDE, predicted_alpha, put_through
from services.worker.masks.outlines import Shape
from services.worker.masks.projector import Wearing, fit, put_on
from services.worker.models.recognizers import Recognizer

EMBEDDED_AT_ONCE = 64


@dataclass(frozen=True)
class Wearers:
    """Aligned faces of people, and how a mask sits on each.

    ``frames`` is uint8 ``(M, 160, 160, 3)`` and may be a memory map: only the faces of one batch
    are read. ``fits`` is ``(N, 13, 2)``; ``people`` holds numbers ``(N,)`` into ``names``. With
    ``alphas``, uint8 ``(M, 128, 128)``, designs replace the masks that people wear on their photos,
    which these are the transparency of; photos without one show the person bare. ``rows`` ``(N,)``
    tells where in both arrays the photos lie; ``None``: they are all of them, in order.
    """

    frames: NDArray[np.uint8]
    fits: Tensor
    people: Tensor
    names: tuple[str, ...]
    alphas: NDArray[np.uint8] | None = None
    rows: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        photos = self.frames if self.rows is None else self.rows
        if not len(photos) == len(self.fits) == len(self.people):
            raise ValueError("frames, fits and people are not equally many")
        if self.alphas is not None and len(self.alphas) != len(self.frames):
            raise ValueError("frames and alphas are not equally many")

    def __len__(self) -> int:
        return len(self.people)

    def faces(
        self, chosen: Sequence[int] | Tensor | NDArray[np.int64], side: int = FRAME
    ) -> Tensor:
        """Return the inner parts of some frames, float ``(B, 3, side, side)`` in [0, 1]."""
        margin = (FRAME - side) // 2
        inner = self.frames[self.rows_of(chosen), margin : margin + side, margin : margin + side]
        return torch.from_numpy(np.ascontiguousarray(inner.transpose(0, 3, 1, 2))).float() / 255

    def rows_of(self, chosen: Sequence[int] | Tensor | NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where some photos lie in ``frames`` and ``alphas``, ``(B,)``."""
        which = np.array([int(index) for index in chosen], dtype=np.int64)
        return which if self.rows is None else self.rows[which]

    @cached_property
    def wearable(self) -> NDArray[np.bool_]:
        """Tell on which photos a design can be worn, ``(N,)``."""
        if self.alphas is None:
            return np.ones(len(self), dtype=np.bool_)
        rows = self.rows_of(range(len(self)))
        shares = [float((self.alphas[row] > 127).mean()) for row in rows]
        return np.array(shares, dtype=np.float64) >= LEAST_SHARE

    @cached_property
    def known_by(self) -> NDArray[np.bool_]:
        """Tell the photos that galleries are made of, ``(N,)``: bare ones, if a person has any."""
        if self.alphas is None:
            return np.ones(len(self), dtype=np.bool_)
        people = self.people.numpy()
        has_bare = np.zeros(len(self.names), dtype=np.bool_)
        has_bare[people[~self.wearable]] = True
        return np.asarray(~self.wearable | ~has_bare[people])

    def wear(
        self,
        faces: Tensor,
        chosen: Sequence[int] | Tensor | NDArray[np.int64],
        designs: Tensor,
        *,
        shape: Shape = "surgical",
        wearing: Wearing | None = None,
    ) -> Tensor:
        """Put designs ``(B or 1, 3, h, w)`` on some photos, whose ``faces`` are ``(B, 3, S, S)``.

        Differentiable in the designs. ``shape`` is that of masks put on bare faces.
        """
        if self.alphas is None:
            which = [int(index) for index in chosen]
            return put_on(faces, designs, self.fits[which], shape=shape, wearing=wearing)
        # Where the mask ends is seen on the whole frame only.
        alphas = torch.from_numpy(self.alphas[self.rows_of(chosen)]).float()[:, None] / 255
        frames = self.faces(chosen).to(faces.device)
        worn = put_through(frames, designs, alphas, wearing=wearing)
        margin = (FRAME - faces.shape[-1]) // 2
        return worn[..., margin : FRAME - margin, margin : FRAME - margin]

    def of(self, chosen: Sequence[int]) -> "Wearers":
        """Return the photos with these numbers, unread; people keep their numbers."""
        which = list(chosen)
        return replace(
            self, fits=self.fits[which], people=self.people[which], rows=self.rows_of(which)
        )

    def renumbered(self) -> "Wearers":
        """Drop the names of people who have no photo left, and number the others anew."""
        numbers, people = torch.unique(self.people, return_inverse=True)
        names = tuple(self.names[int(number)] for number in numbers)
        return replace(self, people=people, names=names)


def seen_masks(
    wearers: Wearers, network: nn.Module, into: NDArray[np.uint8] | None = None
) -> Wearers:
    """Return the same photos with the masks that a network of ``cnn_projector`` sees on them.

    ``into`` takes the alphas, uint8 ``(M, 128, 128)``, and may be a memory map.
    """
    shape = (len(wearers.frames), SIDE, SIDE)
    alphas = np.zeros(shape, dtype=np.uint8) if into is None else into
    for start in range(0, len(wearers), EMBEDDED_AT_ONCE):
        which = range(start, min(start + EMBEDDED_AT_ONCE, len(wearers)))
        found = predicted_alpha(network, wearers.faces(which))
        alphas[wearers.rows_of(which)] = (255 * found[:, 0]).round().byte().numpy()
    return replace(wearers, alphas=alphas)


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
    side = recognizer.frame_side
    device = recognizer.device
    sums: Tensor | None = None
    known_by = np.flatnonzero(wearers.known_by)
    for start in range(0, len(known_by), EMBEDDED_AT_ONCE):
        which = known_by[start : start + EMBEDDED_AT_ONCE]
        embeddings = recognizer.of_frames(wearers.faces(which, side).to(device)).cpu()
        if sums is None:
            sums = torch.zeros(len(wearers.names), embeddings.shape[1])
        sums.index_add_(0, wearers.people[which], embeddings)
    if sums is None:
        raise ValueError("nobody to embed")
    return functional.normalize(sums).clone()
