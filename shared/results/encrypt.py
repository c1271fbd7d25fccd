"""The result of ``encrypt``."""

from typing import Literal

from pydantic import Field

from shared.results.base import JobResult, ResultPart
from shared.specs.base import Box

Verdict = Literal["protected", "weak", "unprotected", "unverified", "no-face"]


class RecognizerUsed(ResultPart):
    """A recognizer, its lineage, and its role in the job."""

    id: str
    architecture: str
    sha256: str = Field(description="of the weights file")
    role: Literal["surrogate", "judge"] = Field(
        description="`surrogate`: the search used it; `judge`: the search never saw it"
    )
    lineage: tuple[str, ...] = Field(description="models it learned from")
    people: tuple[str, ...] = Field(description="the groups of people it was trained on")
    thresholds: dict[str, float] = Field(
        description="similarity over which it takes two photos for one person, by false-accept rate"
    )
    held_out: bool = Field(
        description="judges: shares neither teacher nor training people with any surrogate"
    )


class Identified(ResultPart):
    """The person a recognizer matches a face to, among the job's `people`."""

    name: str | None = Field(description="null: none of them")
    probability: float = Field(
        description=(
            "softmax of 24 times the similarities to each person's nearest photo, with the "
            "threshold of one false accept in 1,000 for none of them"
        )
    )


class Similarity(ResultPart):
    """The answers of one recognizer for a face; cosine similarities in [-1, 1]."""

    recognizer: str
    role: Literal["surrogate", "judge"]
    before: float = Field(description="of the clean photo to itself, found again: near 1")
    after: float = Field(description="of the delivered photo to the clean one")
    after_jpeg: float = Field(description="of the delivered photo saved as JPEG, quality 75")
    after_half: float = Field(description="at half the size")
    after_blur: float = Field(description="after a Gaussian blur")
    others_before: float | None = Field(
        description="of the clean photo to the most similar other photo of the person"
    )
    others_after: float | None
    target_before: float | None = Field(description="to the person moved towards")
    target_after: float | None
    named_before: Identified | None = Field(
        default=None, description="of the clean photo; null where no `people` were given"
    )
    named_after: Identified | None = Field(default=None, description="of the delivered photo")


class EncryptedFace(ResultPart):
    """One face: how much it was changed, and how recognizers match it."""

    box: Box
    detection_score: float | None
    region: Box = Field(description="outside all regions no pixel changed before encoding")
    scale: float = Field(description="pixels of the photo to one of the 160 px aligned face")
    verdict: Verdict
    undecided: bool = Field(
        default=False,
        description="whether `only` or `except` could not tell who it is; it was changed then",
    )
    match_probability: float | None = Field(
        default=None,
        description=(
            "that a strong recognizer which nobody asked matches the delivered face with another, "
            "clean photo of the person, at one false accept in 100; null: none was held out"
        ),
    )
    match_interval: tuple[float, float] | None = Field(
        default=None, description="95 % interval of that probability"
    )
    lowered_by: tuple[str, ...] = Field(
        default=(), description="what keeps the verdict from being `protected`"
    )
    found_again: bool = Field(
        description="whether the face finder still finds it in the delivered photo"
    )
    similarities: tuple[Similarity, ...]
    steps: int = Field(description="gradient steps taken")
    max_change: int = Field(description="largest change of a sample before encoding, in 1/255")
    max_change_delivered: int = Field(description="in the delivered file, within the face")
    psnr: float | None = Field(description="of the face as delivered, in dB; null: unchanged")
    ssim: float = Field(
        description="of the face as delivered: the place of the 112 px crop in the photo"
    )
    color_difference: float | None = Field(
        default=None, description="CIEDE2000 there, mean; about 1 is the least that can be seen"
    )
    color_difference_high: float | None = Field(
        default=None, description="CIEDE2000 there, 99th percentile"
    )


class LeftFace(ResultPart):
    """A face that stays as it was, by `only` or `except`."""

    box: Box
    similarity: float = Field(description="to the most similar of the people named")


class EncryptedImage(ResultPart):
    """One photo and its faces, largest first."""

    image: str
    width: int
    height: int
    media_type: str
    lossless: bool
    verdict: Verdict = Field(
        description=(
            "the weakest of its faces' verdicts; not `protected` where smaller faces than were "
            "searched could be recognized"
        )
    )
    faces: tuple[EncryptedFace, ...]
    left: tuple[LeftFace, ...] = Field(
        default=(), description="faces that stay as they were, by `only` or `except`"
    )
    photo: str = Field(
        description="name of the artifact with the photo; it begins with the verdict"
    )
    difference: str | None = Field(
        description="artifact: the change, amplified; null without faces"
    )
    report: str | None = Field(description="artifact: a card of every face; null without faces")
    smallest_face_searched: float | None = Field(
        default=None,
        description=(
            "longer side, in pixels of the photo, of the smallest face that was searched; null "
            "where `faces` names them"
        ),
    )
    notes: tuple[str, ...]


class EncryptResult(JobResult):
    """Cloaked photos of a job, in the order of the spec."""

    kind: Literal["encrypt"] = "encrypt"
    images: tuple[EncryptedImage, ...]
    verdicts: dict[str, int] = Field(description="photos by verdict")
    recognizers: tuple[RecognizerUsed, ...]
    eps: int = Field(description="largest change of a sample before encoding, in 1/255")
    seconds_a_face: float | None
