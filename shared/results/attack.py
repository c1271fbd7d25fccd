"""The result of ``attack``."""

from typing import Literal

from pydantic import Field

from shared.results.base import JobResult, ResultPart
from shared.results.evaluate import Rate
from shared.specs.base import Box


class AttackedFace(ResultPart):
    """One face. All values after the attack were measured on the delivered PNG."""

    box: Box
    detection_score: float | None
    label: str = Field(description="the true label, given or predicted by the classifier")
    label_before: str
    label_after: str
    confidence_before: float = Field(description="probability of the true label")
    confidence_after: float
    counted: bool = Field(
        description="whether the rates count this face: correct before, and not the target"
    )
    success: bool
    queries: int = Field(description="number of model queries")
    gradients: int
    query_at_success: int | None
    changed_pixels: int
    l2: float = Field(description="in units of 1/255")
    linf: int = Field(description="in units of 1/255")
    found_again: bool | None = Field(
        description="whether the face is found in the delivered photo; null if not searched"
    )
    box_after: Box | None = Field(
        description="label of the face as found and classified in the delivered photo"
    )
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
    notes: tuple[str, ...] = Field(
        default=(),
        description="what changed when the photo was taken in: format, mode, depth, pages left out",
    )


class SuccessRate(ResultPart):
    """Successes over faces classified correctly before, with a Wilson 95 % interval."""

    successes: int
    counted: int
    rate: float | None = Field(description="null if no face counts")
    low: float
    high: float


class Spread(ResultPart):
    """Median and maximum."""

    median: float
    largest: float


class Norms(ResultPart):
    """Size of the change, over the successes."""

    changed_pixels: Spread
    l2: Spread = Field(description="in units of 1/255")
    linf: Spread = Field(description="in units of 1/255")


class AttackResult(JobResult):
    """Attacked faces of all images of the job, in the order of the spec or of the data set."""

    kind: Literal["attack"] = "attack"
    images: tuple[AttackedImage, ...]
    clean_accuracy: Rate | None = Field(
        description="before the attack, over all faces; null if the labels are the classifier's own"
    )
    success: SuccessRate
    median_queries: float | None = Field(description="to success, over successes")
    mean_confidence_drop: float | None = Field(description="of the true label, over counted faces")
    norms: Norms | None = Field(description="null without a success")
    report: str | None = Field(description="artifact: each face before, after, and the change")
    curve: str | None = Field(description="artifact: success against queries")
