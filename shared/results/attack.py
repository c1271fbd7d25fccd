"""The result of ``attack``."""

from typing import Literal

from pydantic import Field

from shared.results.base import JobResult, ResultPart
from shared.results.evaluate import Rate
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
    found_again: bool | None = Field(
        description="by the face finder in the delivered photo; null where it was not asked"
    )
    box_after: Box | None = Field(description="as found again, and classified again")
    adversarial: str | None = Field(
        description="artifact: the attacked face, at the model's resolution (`at: model`)"
    )


class AttackedImage(ResultPart):
    """One photo and its faces, largest first."""

    image: str = Field(description="its id, or its name in the data set")
    width: int
    height: int
    faces: tuple[AttackedFace, ...]
    adversarial: str | None = Field(
        description="artifact: the attacked photo, at its own size (`at: photo`)"
    )
    fooled: bool | None = Field(
        description=(
            "whether every counted face is misclassified in the attacked photo, found again and "
            "cut again; null without `at: photo`, or where no face counts"
        )
    )


class SuccessRate(ResultPart):
    """Successes over faces that the classifier had right, with a Wilson 95 % interval."""

    successes: int
    counted: int
    rate: float | None = Field(description="null where nothing counts")
    low: float
    high: float


class Spread(ResultPart):
    """The middle and the largest of a figure."""

    median: float
    largest: float


class Norms(ResultPart):
    """How much was changed, over the counted faces that were fooled."""

    changed_pixels: Spread
    l2: Spread = Field(description="in units of 1/255")
    linf: Spread = Field(description="in units of 1/255")


class AttackResult(JobResult):
    """Attacked faces of all images of the job, in the order of the spec or of the data set."""

    kind: Literal["attack"] = "attack"
    images: tuple[AttackedImage, ...]
    clean_accuracy: Rate | None = Field(
        description="before the attack, over all faces; null where the labels are the classifier's"
    )
    success: SuccessRate
    median_queries: float | None = Field(description="to success, over successes")
    mean_confidence_drop: float | None = Field(description="of the true label, over counted faces")
    norms: Norms | None = Field(description="null where none was fooled")
    report: str | None = Field(description="artifact: each face before, after, and the change")
    curve: str | None = Field(description="artifact: success against queries")
