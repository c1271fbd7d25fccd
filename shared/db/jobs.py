"""Queries of the client's side: create, read, list, cancel, purge."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, func, or_, select
from sqlalchemy.orm import Session

from shared.db.disk import frees_space
from shared.db.images import NewImage, image_values, keep_bytes
from shared.db.listing import ListedJob, listed_jobs
from shared.db.queries import Queries
from shared.db.statements import JOB, JOB_WITH_ARTIFACTS, NOW_AND_QUEUED, insertion
from shared.db.tables import (
    Artifact,
    Dataset,
    Event,
    IdempotencyKey,
    Image,
    Job,
    JobImage,
    Model,
    Sweep,
)
from shared.problems import Problem
from shared.specs import JobSpec


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job to create. ``images`` came with the request and belong to it."""

    id: str
    tenant_id: str
    spec: JobSpec
    images: Sequence[NewImage] = ()
    idempotency_key: str | None = None
    fingerprint: str = ""
    sweep_id: int | None = None  # of its upload, announced before it was stored
    shipped_models: Container[str] = ()  # those that are no tenant's own


@dataclass(frozen=True)
class Snapshot:
    """Enough of a job to know whether something happened."""

    event_seq: int
    state: str


class JobQueries(Queries):
    """Jobs, as their owners see them."""

    def create(
        self, new: NewJob, *, max_queued: int, retention_seconds: float, ring_again_seconds: float
    ) -> tuple[Job, bool]:
        """Commit a queued job; returns it and whether it is new.

        Raises the problems ``queue-full``, ``unknown-image``, ``unknown-dataset``,
        ``unknown-model`` and ``idempotency-key-reused``.
        A repeated idempotency key with the same fingerprint returns the first job.
        """
        with self._write() as session:
            now, queued = session.execute(NOW_AND_QUEUED).one()
            if new.idempotency_key is not None:
                earlier = self._earlier(session, new, expires_at=now + retention_seconds)
                if earlier is not None:
                    return earlier, False
            _refuse_full(queued, max_queued)
            wanted = set(new.spec.image_ids)
            if new.images:
                rows = [
                    image_values(
                        new.tenant_id,
                        image,
                        now=now,
                        retention_seconds=retention_seconds,
                        job_id=new.id,
                    )
                    for image in new.images
                ]
                session.execute(insertion(Image), rows)
                keep_bytes(session, new.images)
                wanted -= {image.id for image in new.images}
            if new.sweep_id is not None:
                session.execute(delete(Sweep).where(Sweep.id == new.sweep_id))
            self._refuse_unknown_images(session, new.tenant_id, new.spec, wanted, now)
            self._refuse_unknown_datasets(session, new.tenant_id, new.spec, now)
            self._refuse_unknown_models(session, new.tenant_id, new.spec, new.shipped_models, now)
            values = _job_values(
                new, now=now, ring_at=now + ring_again_seconds, expires_at=now + retention_seconds
            )
            session.execute(insertion(Job), values)
            job = Job(**values)
            reads = [
                {
                    "job_id": new.id,
                    "position": position,
                    "tenant_id": new.tenant_id,
                    "image_id": image_id,
                }
                for position, image_id in enumerate(new.spec.image_ids)
            ]
            if reads:
                session.execute(insertion(JobImage), reads)
            self._event(session, job, "queued", {"state": "queued"}, seq=job.event_seq)
            return job, True

    def refuse_unknown(
        self,
        tenant_id: str,
        spec: JobSpec,
        *,
        own: Container[str] = (),
        shipped_models: Container[str] = (),
    ) -> None:
        """Raise what ``create`` would raise of the images, data sets and models that a spec names.

        ``own`` are images that come with the request.
        """
        with self._read() as session:
            now = self._now(session)
            wanted = [image_id for image_id in spec.image_ids if image_id not in own]
            self._refuse_unknown_images(session, tenant_id, spec, set(wanted), now)
            self._refuse_unknown_datasets(session, tenant_id, spec, now)
            self._refuse_unknown_models(session, tenant_id, spec, shipped_models, now)

    def _earlier(self, session: Session, new: NewJob, *, expires_at: float) -> Job | None:
        is_new = self._insert_if_new(
            session,
            IdempotencyKey,
            tenant_id=new.tenant_id,
            key=new.idempotency_key,
            fingerprint=new.fingerprint,
            job_id=new.id,
            expires_at=expires_at,
        )
        if is_new:
            return None
        kept = session.get_one(IdempotencyKey, (new.tenant_id, new.idempotency_key))
        if kept.fingerprint != new.fingerprint:
            raise Problem(
                "idempotency-key-reused",
                f"The key was first used for job {kept.job_id} with another body.",
                job=kept.job_id,
            )
        return session.get_one(Job, kept.job_id)

    def _refuse_unknown_images(
        self,
        session: Session,
        tenant_id: str,
        spec: JobSpec,
        wanted: set[str],
        now: float,
    ) -> None:
        if not wanted:
            return
        # Locked, so that none of them can be deleted before this job is seen to read it.
        found = session.scalars(
            select(Image.id)
            .where(
                Image.id.in_(wanted),
                Image.tenant_id == tenant_id,
                Image.expires_at > now,
                Image.job_id.is_(None),
            )
            .with_for_update(read=True)
        )
        missing = wanted - set(found)
        if missing:
            errors = [
                {"pointer": f"/images/{position}", "detail": f"no such image: {image_id}"}
                for position, image_id in enumerate(spec.image_ids)
                if image_id in missing
            ]
            raise Problem("unknown-image", "The job names images that do not exist.", errors=errors)

    def _refuse_unknown_datasets(
        self, session: Session, tenant_id: str, spec: JobSpec, now: float
    ) -> None:
        wanted = set(spec.dataset_ids)
        if not wanted:
            return
        found = session.scalars(
            select(Dataset.id)
            .where(
                Dataset.id.in_(wanted),
                Dataset.tenant_id == tenant_id,
                or_(Dataset.expires_at.is_(None), Dataset.expires_at > now),
            )
            .with_for_update(read=True)
        )
        missing = sorted(wanted - set(found))
        if missing:
            raise Problem("unknown-dataset", f"There is no data set {', '.join(missing)}.")

    def _refuse_unknown_models(
        self,
        session: Session,
        tenant_id: str,
        spec: JobSpec,
        shipped: Container[str],
        now: float,
    ) -> None:
        wanted = {name for name in spec.model_ids if name not in shipped}
        if not wanted:
            return
        found = session.scalars(
            select(Model.id)
            .where(
                Model.id.in_(wanted),
                Model.tenant_id == tenant_id,
                or_(Model.expires_at.is_(None), Model.expires_at > now),
            )
            .with_for_update(read=True)
        )
        missing = sorted(wanted - set(found))
        if missing:
            raise Problem("unknown-model", f"There is no model {', '.join(missing)}.")

    def get(self, tenant_id: str, job_id: str) -> Job | None:
        """Return the job, or ``None`` for a missing, deleted or foreign one."""
        with self._read() as session:
            return session.scalar(JOB, {"tenant": tenant_id, "job": job_id})

    def page(
        self,
        tenant_id: str,
        *,
        limit: int,
        kind: str | None = None,
        state: str | None = None,
        before: tuple[float, str] | None = None,
    ) -> list[ListedJob]:
        """Return jobs, newest first, those before ``(created_at, id)``."""
        query = listed_jobs(tenant_id, limit=limit, kind=kind, state=state, before=before)
        with self._read() as session:
            return [ListedJob(**row) for row in session.execute(query).mappings()]

    def artifacts(self, tenant_id: str, job_id: str) -> list[Artifact]:
        """Return a finished job's artifacts, in the order it made them."""
        with self._read() as session:
            return list(
                session.scalars(
                    select(Artifact)
                    .where(Artifact.job_id == job_id, Artifact.tenant_id == tenant_id)
                    .order_by(Artifact.position)
                )
            )

    def with_artifacts(self, tenant_id: str, job_id: str) -> tuple[Job, list[Artifact]] | None:
        """Return what ``get`` and ``artifacts`` do, in one transaction."""
        with self._read() as session:
            rows = session.execute(JOB_WITH_ARTIFACTS, {"tenant": tenant_id, "job": job_id}).all()
            if not rows:
                return None
            return rows[0][0], [artifact for _, artifact in rows if artifact is not None]

    def artifact(self, tenant_id: str, job_id: str, name: str) -> Artifact | None:
        """Return one artifact."""
        with self._read() as session:
            return session.scalar(
                select(Artifact).where(
                    Artifact.job_id == job_id,
                    Artifact.tenant_id == tenant_id,
                    Artifact.name == name,
                )
            )

    def events_after(
        self, tenant_id: str, job_id: str, seq: int, *, limit: int = 500
    ) -> list[Event]:
        """Return the job's events after number ``seq``, oldest first."""
        with self._read() as session:
            return list(
                session.scalars(
                    select(Event)
                    .where(Event.job_id == job_id, Event.tenant_id == tenant_id, Event.seq > seq)
                    .order_by(Event.seq)
                    .limit(limit)
                )
            )

    def snapshots(self, job_ids: Iterable[str]) -> dict[str, Snapshot]:
        """Return event number and state of each job that exists (for the watcher)."""
        # No session: it is asked after every commit while anybody waits.
        with self._reading.connect() as connection:
            rows = connection.execute(
                select(Job.id, Job.event_seq, Job.state).where(Job.id.in_(list(job_ids)))
            )
            return {job_id: Snapshot(seq, state) for job_id, seq, state in rows}

    @frees_space
    def cancel(self, tenant_id: str, job_id: str) -> Job | None:
        """Ask a job to stop; a queued one stops at once. Raises the problem ``job-finished``."""
        with self._write() as session:
            job = session.scalar(_visible(tenant_id).where(Job.id == job_id).with_for_update())
            if job is None:
                return None
            if job.state == "cancelling":
                return job
            if job.state not in ("queued", "running"):
                raise Problem("job-finished", f"The job is {job.state} already.", state=job.state)
            if job.state == "queued":
                job.state, job.finished_at = "cancelled", self._now(session)
                self._sweep_upload(session, job)
            else:
                job.state = "cancelling"
            session.flush()
            job.event_seq = self._event(session, job, job.state, {"state": job.state})
            return job

    def own_images(self, tenant_id: str, job_id: str) -> list[str]:
        """Return the ids of the images that came with a job and die with it."""
        with self._read() as session:
            return list(
                session.scalars(
                    select(Image.id).where(Image.job_id == job_id, Image.tenant_id == tenant_id)
                )
            )

    @frees_space
    def purge(self, tenant_id: str, job_id: str, *, tombstone: bool = True) -> bool:
        """Delete a job and all its bytes; a live one stops without a result.

        Without a ``tombstone`` not even its row stays: for jobs that come by the thousand.
        """
        with self._write() as session:
            job = session.scalar(_visible(tenant_id).where(Job.id == job_id).with_for_update())
            if job is None:
                return False
            state = job.state if job.finished_at is not None else "cancelled"
            self._wipe(session, job, state=state, deleted=True)
            if not tombstone:  # who still holds it finds no row, and so no claim
                session.execute(delete(Job).where(Job.id == job_id))
            return True

    def counts(self) -> list[tuple[str, str, int]]:
        """Return ``(kind, state, number)`` of all jobs kept."""
        with self._read() as session:
            rows = session.execute(
                select(Job.kind, Job.state, func.count())
                .where(Job.deleted_at.is_(None))
                .group_by(Job.kind, Job.state)
            )
            return [(kind, state, number) for kind, state, number in rows]

    def oldest_queued_seconds(self) -> dict[str, float]:
        """Return by queue how long its oldest queued job has waited."""
        with self._read() as session:
            rows = session.execute(
                select(Job.queue, self._now(session) - func.min(Job.queued_at))
                .where(Job.state == "queued")
                .group_by(Job.queue)
            )
            return {queue: max(0.0, seconds) for queue, seconds in rows}


def _refuse_full(queued: int, max_queued: int) -> None:
    if queued >= max_queued:
        detail = f"{queued} jobs are waiting; the limit is {max_queued}."
        problem = Problem("queue-full", detail, limit=max_queued)
        raise problem.with_headers(Retry_After="5")


def _visible(tenant_id: str) -> Select[Job]:
    return select(Job).where(Job.tenant_id == tenant_id, Job.deleted_at.is_(None))


def _job_values(new: NewJob, *, now: float, ring_at: float, expires_at: float) -> dict[str, Any]:
    return {
        "id": new.id,
        "tenant_id": new.tenant_id,
        "kind": new.spec.kind,
        "spec_version": new.spec.spec_version,
        "spec": new.spec.model_dump(mode="json"),
        "queue": new.spec.queue,
        "batch_key": new.spec.batch_key,
        "state": "queued",
        "timeout_seconds": new.spec.timeout_seconds,
        "created_at": now,
        "queued_at": now,
        "ring_at": ring_at,
        "rings": 0,
        "expires_at": expires_at,
        "event_seq": 1,  # of the event that its creation adds
        "fence": 0,
        "losses": 0,
        "run_seconds": 0.0,
    }
