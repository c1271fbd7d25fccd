"""The base of all results: model, parameters, timing and versions."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class ResultPart(BaseModel):
    """Base of all parts of a result."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ModelUsed(ResultPart):
    """A model as it was used."""

    id: str
    architecture: str
    sha256: str = Field(description="SHA-256 of the weights file")


class FacesSearched(ResultPart):
    """Which faces a search of a photo could find."""

    smallest: float = Field(
        description="longer side, in pixels of the photo, of the smallest face searched"
    )
    turned: tuple[int, ...] = Field(
        description="degrees against the clock by which the photo was turned to be searched"
    )


class Timing(ResultPart):
    """Time by phase, in seconds. Jobs that ran as one batch share the batch's time."""

    total: float
    parts: dict[str, float] = {}
    batch_jobs: int = Field(default=1, description="jobs that ran in the same batch")


class JobResult(ResultPart):
    """Base of all results. A subclass sets ``kind`` to one ``Literal`` with itself as default."""

    kind: str
    parameters: dict[str, Any] = Field(description="the spec as run, defaults filled in")
    models: tuple[ModelUsed, ...]
    device: str
    versions: dict[str, str]
    timing: Timing
    main_artifact: str | None = Field(default=None, description="the artifact to look at first")
    verdict: str | None = Field(
        default=None,
        description="verdict of the job, if its kind has one; also in `Bauta-Verdict`",
    )
    warnings: tuple[str, ...] = ()
