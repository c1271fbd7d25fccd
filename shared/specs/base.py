"""The base of all job specs."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Queue = Literal["interactive", "batch"]
ImageId = Annotated[str, StringConstraints(pattern=r"^img_[0-9a-f]{24}$")]


class Box(BaseModel):
    """A rectangle in pixels of the upright photo; the origin is the top left corner."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    x: float = Field(ge=-100_000, le=100_000)
    y: float = Field(ge=-100_000, le=100_000)
    width: float = Field(gt=0, le=100_000)
    height: float = Field(gt=0, le=100_000)


class JobSpec(BaseModel):
    """Base of all specs. A subclass sets ``kind`` to one ``Literal`` with itself as default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec_version: ClassVar[int] = 1
    summary: ClassVar[str]
    spec_examples: ClassVar[list[dict[str, Any]]] = []
    # The endpoint that creates these jobs with their file, if not ``POST /v1/jobs/{kind}``.
    endpoint: ClassVar[str | None] = None

    kind: str

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The uploaded images that the job reads."""
        return ()

    @property
    def dataset_ids(self) -> tuple[str, ...]:
        """The data sets that the job reads."""
        return ()

    @property
    def model_ids(self) -> tuple[str, ...]:
        """The models that the job names, including bundled ones."""
        return ()

    @property
    def queue(self) -> Queue:
        """The queue of this job, chosen by its size."""
        return "batch"

    @property
    def batch_key(self) -> str | None:
        """Jobs with equal keys may run as one batch; ``None``: the job runs alone."""
        return None

    @property
    def makes_picture(self) -> bool:
        """Whether the job's main artifact is a picture, when all goes well."""
        return True

    @property
    def timeout_seconds(self) -> float:
        """How long the job may run before it fails with ``deadline-exceeded``."""
        return 3600.0


class ImagesSpec(JobSpec):
    """A spec that works on uploaded images."""

    images: tuple[ImageId, ...] = Field(
        min_length=1,
        max_length=10_000,
        description="ids of uploaded images; files sent in the same multipart call are added",
    )

    @property
    def image_ids(self) -> tuple[str, ...]:
        return self.images
