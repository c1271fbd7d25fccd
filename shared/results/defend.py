"""The result of ``defend``."""

from typing import Any, Literal

from pydantic import Field

from shared.results.base import JobResult, ResultPart
from shared.specs.base import Box


class Labeled(ResultPart):
    """What the classifier says."""

    label: str
    probabilities: dict[str, float]


class AfterStep(Labeled):
    """What the classifier says after a defense and those before it."""

    defense: str
    parameters: dict[str, Any]
    size: tuple[int, int] = Field(description="height and width after it, in pixels")
    changed_pixels: int | None = Field(description="null where the defense resizes")
    mean_change: float | None = Field(description="of a channel's value, in units of 1/255")


class SuspiciousPixel(ResultPart):
    """A pixel of the cut face that pixel repair painted over."""

    x: int
    y: int
    effect: float = Field(
        description="L1 change of the probabilities, with this pixel and those before it, 0 to 2"
    )


class DefendedFace(ResultPart):
    """One face before and after the defenses."""

    box: Box
    detection_score: float | None
    before: Labeled
    steps: tuple[AfterStep, ...]
    suspicious_pixels: tuple[SuspiciousPixel, ...]
    squeezing_score: float = Field(
        description="largest L1 change of the probabilities under feature squeezing, 0 to 2"
    )
    verdict: Literal["steady", "label_changed", "suspicious"] = Field(
        description=(
            "`suspicious`: pixels were found that hold the label; `label_changed`: a defense "
            "changed the label; `steady`: neither. No verdict proves that a photo is clean"
        )
    )
    defended: str = Field(description="name of the artifact with the defended face")


class DefendedImage(ResultPart):
    """One photo and its faces, largest first."""

    image: str
    width: int
    height: int
    faces: tuple[DefendedFace, ...]
    report: str | None = Field(
        description="name of the artifact that shows every step; null without faces"
    )


class DefendResult(JobResult):
    """Defended faces of all images of the job, in the order of the spec."""

    kind: Literal["defend"] = "defend"
    images: tuple[DefendedImage, ...]
    verdicts: dict[str, int] = Field(description="faces by verdict, over all images")
