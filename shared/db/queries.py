"""What all groups of queries share: one transaction a call, events, wiping."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, Row, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from shared.db.disk import Reserve
from shared.db.engine import db_now, reading
from shared.db.statements import CHANNEL, EVENT, EVENT_WITH_NEWS, SWEEP_NOW
from shared.db.tables import (
    LIVE_STATES,
    Artifact,
    Base,
    Checkpoint,
    Event,
    IdempotencyKey,
    Image,
    Job,
    JobImage,
    Sweep,
)
from shared.specs import SPECS, JobSpec, parse_spec

CHECKPOINTS = "checkpoints"
UPLOAD_FILE = "file"
COUNTED: dict[str, Any] = {"event_seq": Job.event_seq + 1}


def new_id(prefix: str) -> str:
    """Return a fresh unguessable id such as ``job_0123456789abcdef01234567``."""
    return f"{prefix}_{secrets.token_hex(12)}"


def job_prefix(tenant_id: str, job_id: str, fence: int | None = None) -> str:
    """Return where a job (or one claim of it) keeps its objects, with a trailing slash."""
    prefix = f"{tenant_id}/jobs/{job_id}/"
    return prefix if fence is None else f"{prefix}{fence}/"


def image_prefix(tenant_id: str, image_id: str) -> str:
    """Return where an image keeps its object, with a trailing slash."""
    return f"{tenant_id}/images/{image_id}/"


def upload_prefix(tenant_id: str, job_id: str) -> str:
    """Return where the file lies that a job was created with, with a trailing slash."""
    return f"{job_prefix(tenant_id, job_id)}upload/"


def dataset_prefix(tenant_id: str, dataset_id: str) -> str:
    """Return where a data set keeps its objects, with a trailing slash."""
    return f"{tenant_id}/datasets/{dataset_id}/"


def model_prefix(tenant_id: str, weights_id: str) -> str:
    """Return where a model keeps its weights, with a trailing slash.

    ``weights_id`` is fresh for every upload: a model's name may be used again after its deletion.
    """
    return f"{tenant_id}/models/{weights_id}/"


class Queries:
    """Base of the query groups."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.reserve = Reserve(engine)
        self._reading = reading(engine)
        self._postgres = engine.dialect.name == "postgresql"

    @contextmanager
    def _write(self) -> Iterator[Session]:
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def _read(self) -> Iterator[Session]:
        with Session(self._reading, expire_on_commit=False) as session, session.begin():
            yield session

    def _now(self, session: Session) -> float:
        return session.execute(select(db_now())).scalar_one()

    def _insert_if_new(self, session: Session, table: type[Base], **values: Any) -> bool:
        dialect = postgresql if self._postgres else sqlite
        statement = dialect.insert(table).values(**values).on_conflict_do_nothing()
        return (
            session.execute(statement.returning(*table.__table__.primary_key)).first() is not None
        )

    def _event(
        self,
        session: Session,
        job: Job | Row[*tuple[Any, ...]],
        kind: str,
        data: dict[str, Any],
        *,
        seq: int | None = None,
    ) -> int:
        """Add an event to a job whose row this transaction has already updated.

        ``seq`` is its number where that update has counted it already (``COUNTED``).
        """
        if seq is None:
            seq = session.execute(
                update(Job)
                .where(Job.id == job.id)
                .values(**COUNTED)
                .returning(Job.event_seq)
                .execution_options(synchronize_session=False)
            ).scalar_one()
        row = {
            "job_id": job.id,
            "seq": seq,
            "tenant_id": job.tenant_id,
            "type": kind,
            "data": data,
        }
        if self._postgres:
            session.execute(EVENT_WITH_NEWS, {**row, "news": f"{job.id} {seq} {kind}"})
        else:
            session.execute(EVENT, row)
        return seq

    def _sweep(self, session: Session, tenant_id: str, prefix: str) -> None:
        session.execute(SWEEP_NOW, {"tenant_id": tenant_id, "prefix": prefix, "last": False})

    def _sweep_upload(self, session: Session, job: Job | Row[*tuple[Any, ...]]) -> None:
        """Delete the file that an ended job was created with."""
        spec = SPECS.get(job.kind)
        if spec is not None and spec.endpoint is not None:
            self._sweep(session, job.tenant_id, upload_prefix(job.tenant_id, job.id))

    def announce_prefix(self, tenant_id: str, prefix: str, *, within_seconds: float) -> int:
        """Let the keeper empty a prefix unless a row for it is committed in time.

        Called before bytes are stored: whatever dies in between, nothing stays behind. Returns the
        sweep's id, which the commit of the row calls off.
        """
        with self._write() as session:
            due_at = self._now(session) + within_seconds
            sweep = Sweep(tenant_id=tenant_id, prefix=prefix, due_at=due_at)
            session.add(sweep)
            session.flush()
            return sweep.id

    def _live_job_that(
        self, session: Session, tenant_id: str, reads: Callable[[JobSpec], bool]
    ) -> str | None:
        """Return the id of a live job whose spec ``reads`` says yes to."""
        live = select(Job).where(Job.tenant_id == tenant_id, Job.state.in_(LIVE_STATES))
        for job in session.scalars(live):
            if job.spec is not None and reads(parse_spec(job.spec)):
                return job.id
        return None

    def _wipe(self, session: Session, job: Job, *, state: str, deleted: bool) -> None:
        """Leave a tombstone without personal data; the objects go by sweeps."""
        now = self._now(session)
        for table in (Artifact, Checkpoint, Event, JobImage):
            session.execute(delete(table).where(table.job_id == job.id))
        own_images = session.scalars(
            delete(Image).where(Image.job_id == job.id).returning(Image.id)
        )
        for image_id in own_images.all():
            self._sweep(session, job.tenant_id, image_prefix(job.tenant_id, image_id))
        session.execute(delete(IdempotencyKey).where(IdempotencyKey.job_id == job.id))
        self._sweep(session, job.tenant_id, job_prefix(job.tenant_id, job.id))
        seq = session.execute(
            update(Job)
            .where(Job.id == job.id)
            .values(
                state=state,
                spec=None,
                progress=None,
                result=None,
                problem=None,
                owner=None,
                lease_expires_at=None,
                # A claim that is still at work must not find its fence again.
                fence=Job.fence + 1,
                finished_at=func.coalesce(Job.finished_at, now),
                deleted_at=now if deleted else Job.deleted_at,
                event_seq=Job.event_seq + 1,
            )
            .returning(Job.event_seq)
            .execution_options(synchronize_session=False)
        ).scalar_one()
        if self._postgres:
            session.execute(select(func.pg_notify(CHANNEL, f"{job.id} {seq} {state}")))
