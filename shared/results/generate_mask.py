"""The result of ``generate-mask``."""

from typing import Literal

from pydantic import Field

from shared.results.base import JobResult, ResultPart
from shared.results.train import Accuracy


class MaskDesign(ResultPart):
    """One design."""

    picture: str = Field(description="artifact: sRGB PNG at true size, 300 pixels an inch")
    page: str = Field(description="artifact: PDF of A4 at true size with its cut line")
    width_mm: float
    height_mm: float
    non_printability: float = Field(description="mean distance to the printable colors")


class MaskFigures(ResultPart):
    """Identification by one recognizer of people who wear one design."""

    recognizer: str
    role: Literal["surrogate", "judge"]
    held_out: bool = Field(description="judges: shares no teacher or people with a surrogate")
    wearing: Literal[
        "nothing", "plain blue", "plain white", "random pattern", "untrained", "ours"
    ] = Field(description="`nothing`: with the projector `cnn`, the mask that is on the photo")
    rank_1: Accuracy | None = Field(
        description="probes that are known among the gallery; null for one person"
    )
    accepted: Accuracy | None = Field(
        description="true accepts at a false-accept rate of 1 %; null where too few are left"
    )
    similarity: float = Field(description="mean, to the own gallery photo")


class MaskEpochFigures(ResultPart):
    """Means of one epoch."""

    epoch: int = Field(description="from 1")
    similarity: float
    variation: float
    printability: float
    likeness: float
    discriminator_loss: float | None


class HogFace(ResultPart):
    """A face that dlib finds."""

    box: tuple[int, int, int, int] = Field(description="left, top, right, bottom in pixels")
    score: float = Field(
        description="detector score; above 0 counts as a face, clear faces reach 2"
    )


class HogTiling(ResultPart):
    """Baseline: one drawn face, tiled at its best size."""

    picture: str = Field(description="artifact: PNG of the same canvas")
    side: int = Field(description="of the face, in pixels")
    found: int = Field(description="faces, counted in this run")
    published: int = Field(description="paper 002's, of a photo on 766 x 766 pixels")


class HogScale(ResultPart):
    """Faces in the pattern at one size."""

    scale: float
    found: int


class HogWearing(ResultPart):
    """Number of views of the wearers in which dlib finds a face, by what they wear."""

    wearing: Literal["nothing", "plain black", "plain white", "plain gray", "plain blue", "ours"]
    views: int = Field(description="photos times sizes at which the bare face is found")
    hidden: int
    score: float = Field(description="mean of the views' best scores, none below -2")


class HogStep(ResultPart):
    """State of the annealing at one step."""

    step: int = Field(description="0: the start")
    fitness: float = Field(description="of the current pattern")
    best_fitness: float
    found: int = Field(description="faces in the best pattern, or views in which it fails to hide")


class HogFigures(ResultPart):
    """A pattern against dlib's HOG face detector."""

    objective: Literal["decoys", "hide"]
    pattern: Literal["sprites", "grid"]
    found: int = Field(description="faces that dlib finds in the pattern at its own size")
    published: int = Field(description="paper 002's, of six sprites on 766 x 766 pixels")
    start_found: int = Field(description="`found` of the objective before the first step")
    faces: tuple[HogFace, ...] = Field(description="at most 200, the best first")
    detections: str = Field(description="artifact: the pattern with the faces drawn in")
    tiling: HogTiling | None = Field(description="the baseline of `decoys`")
    scales: tuple[HogScale, ...] = Field(description="of `decoys`")
    wearings: tuple[HogWearing, ...] = Field(description="of `hide`, with plain masks as controls")
    processes: int
    evaluations: int = Field(description="patterns rated, in all attempts")
    detections_per_second: float = Field(description="pictures searched, in the last attempt")
    history: tuple[HogStep, ...] = Field(description="at most 200 steps, evenly apart")


class GenerateMaskResult(JobResult):
    """Designs, and how well recognizers identify their wearers. Digital, not physically tested."""

    kind: Literal["generate-mask"] = "generate-mask"
    tested: Literal["digital, not physically tested"] = "digital, not physically tested"
    designs: tuple[MaskDesign, ...]
    sheet: str = Field(description="artifact: all designs as one picture")
    worn: str | None = Field(description="artifact: designs worn by people who were held out")
    curves: str | None = Field(description="artifact: the training; null where nothing was trained")
    model: str | None = Field(description="id of the generator that was kept")
    people: dict[str, int] = Field(description="people trained on, and held out")
    photos: dict[str, int]
    figures: tuple[MaskFigures, ...]
    epochs: tuple[MaskEpochFigures, ...]
    likeness: float = Field(description="of the designs to each other: 1 means all the same")
    hog: HogFigures | None = Field(default=None, description="of the method `hog`")
