"""The result of ``classify``."""

from typing import Literal

from pydantic import Field

from shared.results.base import FacesSearched, JobResult, ResultPart
from shared.specs.base import Box


class ClassifiedFace(ResultPart):
    """One face and its label."""

    box: Box = Field(description="in pixels of the upright photo")
    detection_score: float | None = Field(
        description="confidence of the face finder; null for given boxes"
    )
    label: str
    probabilities: dict[str, float]


class ClassifiedImage(ResultPart):
    """One photo and its faces, largest first."""

    image: str
    width: int
    height: int
    faces: tuple[ClassifiedFace, ...]
    searched: FacesSearched | None = Field(
        default=None, description="what the finder searched; null where no finder was needed"
    )
    annotated: str | None = Field(description="name of the artifact with boxes and labels drawn")
    notes: tuple[str, ...] = Field(
        default=(),
        description="what changed when the photo was taken in: format, mode, depth, pages left out",
    )


class ClassifyResult(JobResult):
    """Labels of all faces of all images of the job, in the order of the spec."""

    kind: Literal["classify"] = "classify"
    images: tuple[ClassifiedImage, ...]
    counts: dict[str, int] = Field(description="faces by label, over all images")
