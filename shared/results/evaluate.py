"""The result of ``evaluate``."""

from typing import Any, Literal

from pydantic import Field

from shared.results.base import JobResult, ResultPart


class Rate(ResultPart):
    """A proportion with its Wilson 95 % interval."""

    successes: int
    total: int
    rate: float | None = Field(description="null if nothing was counted")
    low: float
    high: float


class Figure(ResultPart):
    """A figure with its 95 % bootstrap interval, resampled by photo; null where undefined."""

    value: float | None
    low: float | None
    high: float | None


class ModelReport(ResultPart):
    """One model on clean images. Everything else is in the artifacts."""

    model: str
    images: int
    counts: dict[str, int] = Field(description="images by class")
    fingerprint: str = Field(description="SHA-256 over pixels and labels, at the model's input")
    accuracy: Rate
    recall: dict[str, Rate]
    precision: dict[str, Rate]
    macro_f1: Figure
    weighted_f1: Figure
    roc_area: Figure
    calibration_error: Figure
    sources: dict[str, Rate] = Field(description="accuracy by source, where there are several")
    picture: str = Field(description="artifact: confusion matrix, curves, reliability")
    errors: str | None = Field(
        description="artifact: the most confident errors; null if there are none"
    )
    document: str = Field(description="artifact: all figures as JSON")
    csv: str = Field(description="artifact: all figures as CSV")


class Paired(ResultPart):
    """McNemar's exact test of two rows on the same images."""

    only_first: int = Field(description="images that only the undefended model got right")
    only_second: int = Field(description="images that only the defended one got right")
    p: float


class AgainstUndefended(ResultPart):
    """Accuracy after the attack, compared with the same attack on the undefended model."""

    transferred: Paired | None
    adaptive: Paired


class RandomDraws(ResultPart):
    """A random defense, judged by draws that the attack never saw.

    The rates of the row count an image as right by the majority of the draws (`smoothing`: by its
    own test); these are means over single draws.
    """

    judged: int = Field(description="draws an image")
    attacked: int = Field(description="draws that a query of the attack averaged")
    clean_accuracy: float
    adaptive_success: float | None = Field(description="over images right before")
    robust_accuracy: float


class CertifiedAt(ResultPart):
    """Certified accuracy at one radius."""

    radius: float = Field(description="L2 norm of a change, with values in [0, 1]")
    accuracy: Rate


class Certificates(ResultPart):
    """Certified accuracy of randomized smoothing, against any attack (Cohen et al. 2019)."""

    sigma: float
    alpha: float = Field(description="risk, for each image, that its certificate is wrong")
    samples: int
    abstained: Rate
    accuracy: tuple[CertifiedAt, ...] = Field(
        description=(
            "share of the clean images that are right and stay so under every change of a norm "
            "below the radius, of the picture as it reaches the noise"
        )
    )


class TableRow(ResultPart):
    """One model, defense and attack, on the same images as all rows of the model."""

    model: str
    model_sha256: str
    defense: str
    attack: str
    parameters: dict[str, Any]
    images: int
    clean_accuracy: Rate = Field(description="with the defense, without an attack")
    transferred_success: Rate | None = Field(
        description="of the attack made without the defense, over images right before"
    )
    adaptive_success: Rate = Field(
        description="of the attack that goes through the defense, over images right before"
    )
    robust_accuracy: Rate = Field(description="right after the adaptive attack, over all images")
    median_queries: float | None = Field(description="to success, over successes")
    cost_ms: float = Field(description="to defend and classify one image, without an attack")
    draws: RandomDraws | None = Field(default=None, description="of a random defense alone")
    certified: Certificates | None = Field(default=None, description="of `smoothing` alone")
    against_undefended: AgainstUndefended | None = None


class DetectorRow(ResultPart):
    """A detector of attacked images, for one model and attack; the attack does not know of it.

    Rates need a threshold calibrated for the very weights, and are null without one.
    """

    model: str
    model_sha256: str
    detector: Literal["feature_squeezing"] = "feature_squeezing"
    attack: str
    images: int
    threshold: float | None = Field(description="images with a score above it are suspicious")
    target_rate: float | None = Field(description="of false positives, that it was set for")
    calibrated_on: str | None
    false_positives: Rate | None = Field(description="clean images called suspicious, of all")
    detected: Rate | None = Field(
        description="called suspicious, of the images that the attack fooled the model with"
    )
    fooled_undetected: Rate | None = Field(
        description="fooled and not called suspicious, of the images that were right before"
    )
    roc_area: Figure = Field(description="scores of fooling images against those of clean ones")


class Round(ResultPart):
    """One round of the attack and defense cycle, on held-out images."""

    round: int = Field(description="0: the model as given")
    finds: int = Field(description="attacked training images learned from so far")
    clean: Rate
    robust: Rate


class EvaluateResult(JobResult):
    """Reports, and where there are attacks the table of all rows."""

    kind: Literal["evaluate"] = "evaluate"
    estimated_seconds: float = Field(description="as announced when the job began")
    reports: tuple[ModelReport, ...]
    rows: tuple[TableRow, ...]
    detectors: tuple[DetectorRow, ...] = Field(
        default=(), description="for each undefended row, where a detector was asked for"
    )
    rounds: tuple[Round, ...]
    table: str | None = Field(description="artifact: the rows as a picture")
    table_csv: str | None = Field(description="artifact")
    table_json: str | None = Field(description="artifact")
    sweep: str | None = Field(description="artifact: accuracy against the swept parameter")
    detection: str | None = Field(default=None, description="artifact: the detector's ROC curves")
    cycle: str | None = Field(description="artifact: both accuracies by round")
