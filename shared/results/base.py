"""What every result carries, so that it can be judged later."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class ResultPart(BaseModel):
    """Base of everything inside a result."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ModelUsed(ResultPart):
    """A model as it was used."""

    id: str
    architecture: str
    sha256: str = Field(description="of the weights file")


class Timing(ResultPart):
    """Where the time went, in seconds. Jobs run as one batch share the batch's time."""

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
        default=None, description="the whole job's, where there is one; in `Bauta-Verdict`, too"
    )
    warnings: tuple[str, ...] = ()
