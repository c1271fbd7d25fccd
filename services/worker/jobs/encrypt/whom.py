"""Whose faces a job changes: those of `only`, or all but those of `except`."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from services.worker.faces.alignment import Alignment, cut_frame
from services.worker.faces.crops import Pixels
from services.worker.jobs.encrypt.chosen import Chosen
from services.worker.jobs.kit.faces import as_box
from services.worker.jobs.kit.recognizers import LoadedRecognizer, embeddings_of
from shared.problems import Problem
from shared.results.encrypt import LeftFace

SAME, OTHER = "0.001", "0.01"  # false-accept rates of the two thresholds


@dataclass(frozen=True)
class Whom:
    """People by photos ``(K, 3, 160, 160)``, and what compares faces with them.

    From ``same`` on a face is one of theirs, under ``other`` it is not; between, nobody knows.
    """

    keep: Literal["only", "except"]
    frames: Tensor
    recognizer: LoadedRecognizer
    same: float
    other: float

    @property
    def note(self) -> str:
        """What was compared, and by which thresholds."""
        return (
            f"`{self.keep}`: compared by {self.recognizer.card.id}; from a similarity of "
            f"{self.same:.2f} on a face is one of the people named, under {self.other:.2f} it is "
            "not, and between it is undecided and was changed"
        )

    def split(
        self, photo: Pixels, chosen: list[Chosen]
    ) -> tuple[list[Chosen], tuple[LeftFace, ...]]:
        """Return the faces to change, undecided ones marked, and those that stay."""
        if not chosen:
            return [], ()
        frames = torch.stack([frame_of(photo, face.alignment) for face in chosen])
        known = embeddings_of(self.recognizer, self.frames)
        similar = (embeddings_of(self.recognizer, frames) @ known.T).amax(1).tolist()
        changed: list[Chosen] = []
        left: list[LeftFace] = []
        for face, value in zip(chosen, similar, strict=True):
            undecided = self.other <= value < self.same
            theirs = value >= self.same
            if undecided or theirs == (self.keep == "only"):
                changed.append(replace(face, undecided=undecided))
            else:
                left.append(LeftFace(box=as_box(face.box), similarity=round(value, 4)))
        return changed, tuple(left)


def whom_of(
    keep: Literal["only", "except"], frames: Tensor, recognizers: tuple[LoadedRecognizer, ...]
) -> Whom:
    """Return who is meant, compared by the first recognizer that has thresholds.

    Raises the problem ``invalid-input`` where none has.
    """
    for one in recognizers:
        if SAME in one.thresholds and OTHER in one.thresholds:
            return Whom(keep, frames, one, one.thresholds[SAME], one.thresholds[OTHER])
    raise Problem("invalid-input", f"No recognizer of the job has thresholds: `{keep}` needs one.")


def frame_of(photo: Pixels, alignment: Alignment) -> Tensor:
    """Return a face's frame, float ``(3, 160, 160)`` in [0, 1]."""
    return torch.from_numpy(cut_frame(photo, alignment)).permute(2, 0, 1).float() / 255
