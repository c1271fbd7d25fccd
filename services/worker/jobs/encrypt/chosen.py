"""A face that a job changes."""

from dataclasses import dataclass

from services.worker.faces.alignment import Alignment
from services.worker.faces.face import Corners


@dataclass(frozen=True)
class Chosen:
    """A face to change: where it is, how its frame lies, whether it is known whose it is."""

    box: Corners
    score: float | None
    alignment: Alignment
    undecided: bool = False
