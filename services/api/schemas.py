"""What the API answers with."""

import re
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from shared.db.listing import ListedJob
from shared.db.tables import Artifact, Image, Job
from shared.text import bounded

VERDICT = "Bauta-Verdict"  # the header


class ProblemDocument(BaseModel):
    """A problem (RFC 9457). Some types carry further members, such as ``job`` or ``limit``."""

    model_config = {"extra": "allow"}

    type: str = Field(examples=["/problems/invalid-request"])
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] | None = Field(
        None, description="for bad input: a JSON pointer and a sentence each"
    )


class ImageView(BaseModel):
    """An uploaded image."""

    id: str
    media_type: str
    width: int = Field(description="of the upright picture, in pixels")
    height: int
    size: int = Field(description="in bytes, as stored")
    sha256: str
    notes: tuple[str, ...] = Field(
        description="what changed when it was taken in: format, mode, depth, what was left out"
    )
    created_at: datetime
    expires_at: datetime
    content_url: str

    @classmethod
    def of(cls, row: Image) -> "ImageView":
        """View a row."""
        return cls(
            id=row.id,
            media_type=row.media_type,
            width=row.width,
            height=row.height,
            size=row.size,
            sha256=row.sha256,
            notes=tuple(row.notes),
            created_at=moment(row.created_at),
            expires_at=moment(row.expires_at),
            content_url=f"/v1/images/{row.id}/content",
        )


class Progress(BaseModel):
    """How far a job is."""

    done: int
    total: int
    message: str = ""

    model_config = {"extra": "allow"}


class ArtifactView(BaseModel):
    """A file of a result."""

    name: str
    media_type: str
    size: int
    sha256: str
    url: str


class JobView(BaseModel):
    """A job."""

    id: str
    kind: str
    state: Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled", "expired"]
    queue: str
    spec: dict[str, Any] | None
    progress: Progress | None
    result: dict[str, Any] | None = Field(
        description=(
            "as the kind's `result_schema` says; a large one holds what all results share, and in "
            "`result_artifact` the name of the artifact that is the whole of it, as JSON"
        )
    )
    problem: ProblemDocument | None
    artifacts: list[ArtifactView]
    attempts: int = Field(description="how often a worker has started it")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime = Field(description="when its data is deleted")
    url: str
    events_url: str

    @classmethod
    def of(cls, job: Job, artifacts: list[Artifact]) -> "JobView":
        """View rows."""
        url = job_url(job.id)
        return cls.model_validate(
            {
                "id": job.id,
                "kind": job.kind,
                "state": job.state,
                "queue": job.queue,
                "spec": job.spec,
                "progress": job.progress,
                "result": job.result,
                "problem": job.problem,
                "artifacts": [
                    ArtifactView(
                        name=artifact.name,
                        media_type=artifact.media_type,
                        size=artifact.size,
                        sha256=artifact.sha256,
                        url=f"{url}/artifacts/{artifact.name}",
                    )
                    for artifact in artifacts
                ],
                "attempts": job.fence if job.spec is not None else job.fence - 1,
                "created_at": moment(job.created_at),
                "started_at": moment(job.started_at),
                "finished_at": moment(job.finished_at),
                "expires_at": moment(job.expires_at),
                "url": url,
                "events_url": f"{url}/events",
            }
        )


class JobSummary(BaseModel):
    """A job in a list: without its spec, result and files, which the job itself has."""

    id: str
    kind: str
    state: Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled", "expired"]
    queue: str
    progress: Progress | None
    problem: ProblemDocument | None
    artifact_count: int
    attempts: int = Field(description="how often a worker has started it")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime = Field(description="when its data is deleted")
    url: str

    @classmethod
    def of(cls, row: ListedJob) -> "JobSummary":
        """View a row."""
        return cls.model_validate(
            {
                "id": row.id,
                "kind": row.kind,
                "state": row.state,
                "queue": row.queue,
                "progress": bounded(row.progress),
                "problem": bounded(row.problem),
                "artifact_count": row.artifacts,
                "attempts": row.attempts,
                "created_at": moment(row.created_at),
                "started_at": moment(row.started_at),
                "finished_at": moment(row.finished_at),
                "expires_at": moment(row.expires_at),
                "url": job_url(row.id),
            }
        )


class JobPage(BaseModel):
    """Some jobs, newest first."""

    jobs: list[JobSummary]
    next_page_token: str | None = Field(description="null on the last page")


class Validated(BaseModel):
    """The answer to ``validate_only``: the spec as it would run."""

    valid: Literal[True] = True
    spec: dict[str, Any]
    queue: str = Field(description="that the job would wait in: `interactive` or `batch`")


class OperationView(BaseModel):
    """A job kind: what it takes and what it gives."""

    kind: str
    summary: str
    description: str
    spec_schema: dict[str, Any]
    result_schema: dict[str, Any] | None
    defaults: dict[str, Any]
    examples: list[dict[str, Any]]
    url: str


def is_id(value: str, prefix: str) -> bool:
    """Whether this can be an id at all; what cannot is not worth a query, nor fit for one."""
    return re.fullmatch(rf"{prefix}_[0-9a-f]{{24}}", value) is not None


def job_url(job_id: str) -> str:
    """Return a job's path."""
    return f"/v1/jobs/{job_id}"


def moment(seconds: float | None) -> Any:
    """Return seconds since the epoch as a time in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
