"""What lists show of jobs and data sets: rows without the documents that may be large."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, case, func, or_, select

from shared.db.tables import Artifact, Dataset, Job

Before = tuple[float, str]  # (created_at, id) of the last row of the page before


@dataclass(frozen=True, kw_only=True)
class ListedJob:
    """What a list says of a job: neither its spec nor its result, which may be large."""

    id: str
    kind: str
    state: str
    queue: str
    progress: dict[str, Any] | None
    problem: dict[str, Any] | None
    artifacts: int  # how many
    attempts: int  # how often it was claimed
    created_at: float
    started_at: float | None
    finished_at: float | None
    expires_at: float


_LISTED = (
    *(Job.id, Job.kind, Job.state, Job.queue, Job.progress, Job.problem),
    select(func.count())
    .where(Artifact.job_id == Job.id)
    .correlate(Job)
    .scalar_subquery()
    .label("artifacts"),
    # Wiping a job takes a fence, which no worker held.
    case((Job.spec.is_(None), Job.fence - 1), else_=Job.fence).label("attempts"),
    *(Job.created_at, Job.started_at, Job.finished_at, Job.expires_at),
)


def listed_jobs(
    tenant_id: str,
    *,
    limit: int,
    kind: str | None = None,
    state: str | None = None,
    before: Before | None = None,
) -> Select[Any]:
    """Select the columns of ``ListedJob``, newest first."""
    query = (
        select(*_LISTED)
        .where(Job.tenant_id == tenant_id, Job.deleted_at.is_(None))
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(limit)
    )
    if kind is not None:
        query = query.where(Job.kind == kind)
    if state is not None:
        query = query.where(Job.state == state)
    if before is not None:
        created_at, job_id = before
        query = query.where(
            or_(Job.created_at < created_at, (Job.created_at == created_at) & (Job.id < job_id))
        )
    return query


@dataclass(frozen=True, kw_only=True)
class ListedDataset:
    """What a list says of a data set: neither its classes nor its counts, which may be many."""

    id: str
    name: str
    layout: str
    class_count: int
    images: int
    size: int
    sha256: str
    job_id: str | None
    created_at: float
    expires_at: float | None


def listed_datasets(
    tenant_id: str, *, now: float, limit: int, before: Before | None = None
) -> Select[Any]:
    """Select the columns of ``ListedDataset``, newest first."""
    query = (
        select(
            *(Dataset.id, Dataset.name, Dataset.layout, Dataset.images, Dataset.size),
            *(Dataset.sha256, Dataset.job_id, Dataset.created_at, Dataset.expires_at),
            func.json_array_length(Dataset.classes).label("class_count"),
        )
        .where(
            Dataset.tenant_id == tenant_id,
            or_(Dataset.expires_at.is_(None), Dataset.expires_at > now),
        )
        .order_by(Dataset.created_at.desc(), Dataset.id.desc())
        .limit(limit)
    )
    if before is not None:
        created_at, dataset_id = before
        query = query.where(
            or_(
                Dataset.created_at < created_at,
                (Dataset.created_at == created_at) & (Dataset.id < dataset_id),
            )
        )
    return query
