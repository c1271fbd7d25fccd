"""The tables. Times are seconds since the epoch by the database's clock."""

from typing import Any, cast

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, String, Table, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

TENANT = String(64)
ID = String(40)
DOCUMENT = JSON(none_as_null=True)

LIVE_STATES = ("queued", "running", "cancelling")
HELD_STATES = ("running", "cancelling")
FINAL_STATES = ("succeeded", "failed", "cancelled", "expired")
STATES = LIVE_STATES + FINAL_STATES


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {float: Double, dict[str, Any]: DOCUMENT}  # noqa: RUF012


def table_of(entity: type[Base]) -> Table:
    """Return an entity's table, for statements without the bookkeeping of objects."""
    return cast(Table, entity.__table__)


class ApiKey(Base):
    """An API key; only a hash of its secret is kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(TENANT, index=True)
    name: Mapped[str] = mapped_column(String(200))
    secret_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[float]
    revoked_at: Mapped[float | None]


class Image(Base):
    """An uploaded image. ``job_id`` is set on one that came with its job and dies with it."""

    __tablename__ = "images"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(TENANT, index=True)
    job_id: Mapped[str | None] = mapped_column(ID, index=True)
    media_type: Mapped[str] = mapped_column(String(100))
    width: Mapped[int]
    height: Mapped[int]
    orientation: Mapped[int]
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    object_key: Mapped[str] = mapped_column(String(300))
    notes: Mapped[list[str]] = mapped_column(
        DOCUMENT, server_default="[]", comment="what changed when it was taken in"
    )
    created_at: Mapped[float]
    expires_at: Mapped[float] = mapped_column(Double, index=True)


class Job(Base):
    """A job: its spec, its place in the queue, its holder, its end."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(TENANT)
    kind: Mapped[str] = mapped_column(String(100))
    spec_version: Mapped[int]
    spec: Mapped[dict[str, Any] | None] = mapped_column(DOCUMENT)
    queue: Mapped[str] = mapped_column(String(40))
    batch_key: Mapped[str | None] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(20))
    timeout_seconds: Mapped[float]
    created_at: Mapped[float]
    queued_at: Mapped[float]
    ring_at: Mapped[float] = mapped_column(Double, comment="when the keeper rings again")
    rings: Mapped[int] = mapped_column(default=0)
    # the claim
    owner: Mapped[str | None] = mapped_column(String(200))
    fence: Mapped[int] = mapped_column(default=0)
    losses: Mapped[int] = mapped_column(default=0)
    claimed_at: Mapped[float | None]
    lease_expires_at: Mapped[float | None]
    run_seconds: Mapped[float] = mapped_column(Double, default=0.0, comment="in earlier claims")
    # what clients see
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    expires_at: Mapped[float]
    deleted_at: Mapped[float | None]
    event_seq: Mapped[int] = mapped_column(default=0)
    progress: Mapped[dict[str, Any] | None] = mapped_column(DOCUMENT)
    result: Mapped[dict[str, Any] | None] = mapped_column(DOCUMENT)
    problem: Mapped[dict[str, Any] | None] = mapped_column(DOCUMENT)

    __table_args__ = (
        Index("ix_jobs_queue", "state", "queue", "queued_at"),
        Index("ix_jobs_listing", "tenant_id", "created_at", "id"),
        Index("ix_jobs_expiry", "state", "expires_at"),
    )


class JobImage(Base):
    """Which images a job reads."""

    __tablename__ = "job_images"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(TENANT)
    image_id: Mapped[str] = mapped_column(ID, index=True)


class Event(Base):
    """What happened to a job, numbered from 1 within the job."""

    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(TENANT)
    type: Mapped[str] = mapped_column(String(40))
    data: Mapped[dict[str, Any]] = mapped_column(DOCUMENT)
    created_at: Mapped[float]


class Artifact(Base):
    """A file that a finished job delivered."""

    __tablename__ = "artifacts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(TENANT)
    position: Mapped[int]
    media_type: Mapped[str] = mapped_column(String(100))
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    object_key: Mapped[str] = mapped_column(String(400))
    image_id: Mapped[str | None] = mapped_column(
        ID, comment="it was made of; null: of all that the job reads"
    )
    created_at: Mapped[float]


class Checkpoint(Base):
    """The newest checkpoint of a live job: one row a file."""

    __tablename__ = "checkpoints"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(TENANT)
    fence: Mapped[int]
    object_key: Mapped[str] = mapped_column(String(400))
    created_at: Mapped[float]


class Model(Base):
    """A model that a tenant trained or uploaded; the shipped ones and the operator's are files."""

    __tablename__ = "models"

    tenant_id: Mapped[str] = mapped_column(TENANT, primary_key=True)
    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    task: Mapped[str] = mapped_column(String(40))
    default: Mapped[bool] = mapped_column(default=False, comment="serves its task for its tenant")
    card: Mapped[dict[str, Any]] = mapped_column(DOCUMENT)
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    object_key: Mapped[str] = mapped_column(String(300))
    job_id: Mapped[str | None] = mapped_column(ID, comment="that made it")
    created_at: Mapped[float]
    expires_at: Mapped[float | None] = mapped_column(Double, index=True, comment="null: kept")


class Dataset(Base):
    """A data set: one pack of images in the object store. Its card lists every image."""

    __tablename__ = "datasets"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(TENANT)
    name: Mapped[str] = mapped_column(String(200))
    layout: Mapped[str] = mapped_column(String(40))
    classes: Mapped[list[str]] = mapped_column(DOCUMENT)
    summary: Mapped[dict[str, Any]] = mapped_column(DOCUMENT, comment="counts, duplicates, …")
    images: Mapped[int]
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    object_key: Mapped[str] = mapped_column(String(300), comment="of the pack")
    job_id: Mapped[str | None] = mapped_column(ID, comment="that made it")
    created_at: Mapped[float]
    expires_at: Mapped[float | None] = mapped_column(Double, index=True)

    __table_args__ = (Index("ix_datasets_listing", "tenant_id", "created_at", "id"),)


class IdempotencyKey(Base):
    """A key that a client gave a request, so that its repetition creates nothing new."""

    __tablename__ = "idempotency_keys"

    tenant_id: Mapped[str] = mapped_column(TENANT, primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(ID)
    expires_at: Mapped[float] = mapped_column(Double, index=True)


class Sweep(Base):
    """A prefix of the object store (or one object's key): emptied when due, then once more."""

    __tablename__ = "sweeps"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    tenant_id: Mapped[str] = mapped_column(TENANT)
    prefix: Mapped[str] = mapped_column(Text)
    due_at: Mapped[float] = mapped_column(Double, index=True)
    last: Mapped[bool] = mapped_column(default=False)
