"""The result of ``attack``."""

from typing import Literal

from pydantic import Field

from shared.results.base import JobResult, ResultPart
from shared.specs.base import Box


class AttackedFace(ResultPart):
    """One face. What is claimed of it after the attack was read from the delivered PNG."""

    box: Box
    detection_score: float | None
    label: str = Field(description="the true label, given or the classifier's own")
    label_before: str
    label_after: str
    confidence_before: float = Field(description="of the true label")
    confidence_after: float
    counted: bool = Field(
        description="whether the rates count it: right before, not yet the target"
    )
    success: bool
    queries: int = Field(description="images shown to the model")
    gradients: int
    query_at_success: int | None
    changed_pixels: int
    l2: float = Field(description="in units of 1/255")
    linf: int = Field(description="in units of 1/255")
    adversarial: str = Field(description="artifact: the attacked face, at the model's resolution")


class AttackedImage(ResultPart):
    """One photo and its faces, largest first."""

    image: str
    width: int
    height: int
    faces: tuple[AttackedFace, ...]


class SuccessRate(ResultPart):
    """Successes over faces that the classifier had right, with a Wilson 95 % interval."""

    successes: int
    counted: int
    rate: float | None = Field(description="null where nothing counts")
    low: float
    high: float


class AttackResult(JobResult):
    """Attacked faces of all images of the job, in the order of the spec."""

    kind: Literal["attack"] = "attack"
    images: tuple[AttackedImage, ...]
    success: SuccessRate
    median_queries: float | None = Field(description="to success, over successes")
    mean_confidence_drop: float | None = Field(description="of the true label, over counted faces")
    report: str | None = Field(description="artifact: each face before, after, and the change")
    curve: str | None = Field(description="artifact: success against queries")
