"""The result of ``defend``."""

from typing import Any, Literal

from pydantic import Field

from shared.results.base import JobResult, ResultPart
from shared.specs.base import Box

Verdict = Literal["steady", "label_changed", "abstained", "suspicious"]


class Labeled(ResultPart):
    """Labels and probabilities of the classifier."""

    label: str
    probabilities: dict[str, float]


class Certified(ResultPart):
    """The certificate of randomized smoothing (Cohen et al. 2019)."""

    abstains: bool = Field(description="no label is frequent enough to be certified")
    radius: float = Field(
        description=(
            "no change of the picture as it reaches this step changes the label if its L2 norm, "
            "with values in [0, 1], is below; 0 where it abstains"
        )
    )
    probability: float = Field(description="of the label under noise, at least")
    alpha: float = Field(description="risk that this is wrong")
    sigma: float
    samples: int


class ProtectedRegion(ResultPart):
    """What seams were to keep out of, and whether they did."""

    kept: bool
    lost: float = Field(description="share of its pixels that were carved away, 0 to 1")
    least_size: tuple[int, int] = Field(
        description="height and width that the target must have at least to keep all of it"
    )


class AfterStep(Labeled):
    """The classifier's answer after this defense and those before it."""

    defense: str
    parameters: dict[str, Any]
    size: tuple[int, int] = Field(description="height and width after it, in pixels")
    changed_pixels: int | None = Field(description="null if the defense resizes")
    mean_change: float | None = Field(description="of a channel's value, in units of 1/255")
    certificate: Certified | None = Field(
        default=None,
        description=(
            "of `smoothing` alone, whose probabilities are the shares of the labels under noise; "
            "the picture stays as it was"
        ),
    )
    protected: ProtectedRegion | None = Field(
        default=None, description="of `seam_carving` with `protect_face` or `protect` alone"
    )


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
        description=(
            "largest L1 change of the probabilities under feature squeezing (Xu et al. 2018), at "
            "the classifier's input size, 0 to 2"
        )
    )
    squeezing_suspicious: bool | None = Field(
        description="whether the score is above the detector's threshold; null without a threshold"
    )
    verdict: Verdict = Field(
        description=(
            "`suspicious`: pixels were found that hold the label, or the detector's score is above "
            "its threshold, as it is for the stated share of clean photos; `label_changed`: a "
            "defense changed the label; `abstained`: smoothing found no label; `steady`: none of "
            "these. No verdict proves that a photo is "
            "clean, or attacked"
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
    notes: tuple[str, ...] = Field(
        default=(),
        description="what changed when the photo was taken in: format, mode, depth, pages left out",
    )


class CalibratedDetector(ResultPart):
    """The threshold of the squeezing detector for the model used, and what it rests on."""

    threshold: float
    false_positive_rate: float = Field(description="at most, on the clean images it was set on")
    alarms: int = Field(description="how many of them were called suspicious")
    images: int = Field(description="how many there were")
    data: str


class DefendResult(JobResult):
    """Defended faces of all images of the job, in the order of the spec."""

    kind: Literal["defend"] = "defend"
    images: tuple[DefendedImage, ...]
    verdicts: dict[str, int] = Field(description="faces by verdict, over all images")
    detector: CalibratedDetector | None = Field(
        description="null where the model's detector has not been calibrated"
    )
