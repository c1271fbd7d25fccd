"""Queries of the keeper: ring again, reap, expire, sweep."""

from dataclasses import dataclass
from functools import partial

from sqlalchemy import delete, exists, select

from shared.db.claims import requeue
from shared.db.disk import database_file, empty_log, frees_space
from shared.db.engine import db_now
from shared.db.queries import Queries, dataset_prefix, image_prefix, job_prefix
from shared.db.tables import (
    FINAL_STATES,
    HELD_STATES,
    LIVE_STATES,
    Checkpoint,
    Dataset,
    IdempotencyKey,
    Image,
    Job,
    JobImage,
    Model,
    Sweep,
)
from shared.problems import Problem
from shared.specs import JobSpec

ROUND = 200


@dataclass(frozen=True)
class Reaped:
    """A job whose lease ran out, and what became of it."""

    job_id: str
    queue: str
    state: str
    losses: int


class KeeperQueries(Queries):
    """The periodic duties."""

    def overdue(self, queue: str) -> list[str]:
        """Return ids of jobs that wait longer than a ring takes to be heard, oldest first."""
        with self._read() as session:
            return list(
                session.scalars(
                    select(Job.id)
                    .where(
                        Job.state == "queued",
                        Job.queue == queue,
                        Job.ring_at <= self._now(session),
                    )
                    .order_by(Job.queued_at)
                    .limit(ROUND)
                )
            )

    @frees_space
    def reap(
        self, *, max_losses: int, retention_seconds: float, ring_again_seconds: float
    ) -> list[Reaped]:
        """Return expired leases to the queue; a job lost too often fails with ``worker-lost``."""
        with self._write() as session:
            now = self._now(session)
            lost = session.scalars(
                select(Job)
                .where(Job.state.in_(HELD_STATES), Job.lease_expires_at < now)
                .limit(ROUND)
                .with_for_update(skip_locked=True)
            ).all()
            reaped = []
            for job in lost:
                job.losses += 1
                data: dict[str, object] = {"reason": "lease expired", "losses": job.losses}
                if job.state == "cancelling":
                    job.state = "cancelled"
                elif job.losses >= max_losses:
                    job.state = "failed"
                    problem = Problem(
                        "worker-lost",
                        f"The job's worker died {job.losses} times while running it.",
                        losses=job.losses,
                    )
                    job.problem = data["problem"] = problem.document()
                else:
                    requeue(job, now=now, ring_at=now + ring_again_seconds)
                if job.state != "queued":
                    job.finished_at, job.lease_expires_at = now, None
                    job.expires_at = now + retention_seconds
                    session.execute(delete(Checkpoint).where(Checkpoint.job_id == job.id))
                    self._sweep(session, job.tenant_id, job_prefix(job.tenant_id, job.id))
                session.flush()
                self._event(session, job, job.state, {"state": job.state, **data})
                reaped.append(Reaped(job.id, job.queue, job.state, job.losses))
            return reaped

    @frees_space
    def expire_jobs(self) -> int:
        """Turn finished or never-run jobs past their time into tombstones."""
        with self._write() as session:
            past = session.scalars(
                select(Job)
                .where(
                    Job.state.in_(("queued", "succeeded", "failed", "cancelled")),
                    Job.deleted_at.is_(None),
                    Job.expires_at < self._now(session),
                )
                .limit(ROUND)
                .with_for_update(skip_locked=True)
            ).all()
            for job in past:
                self._wipe(session, job, state="expired", deleted=False)
            return len(past)

    @frees_space
    def forget_tombstones(self, *, older_than_seconds: float) -> int:
        """Drop the rows of jobs that were deleted or expired long ago."""
        with self._write() as session:
            limit = self._now(session) - older_than_seconds
            gone = session.execute(
                delete(Job)
                .where(
                    Job.state.in_(FINAL_STATES),
                    (Job.deleted_at < limit)
                    | ((Job.state == "expired") & (Job.expires_at < limit)),
                )
                .returning(Job.id)
                .execution_options(synchronize_session=False)
            )
            return len(gone.all())

    @frees_space
    def expire_images(self) -> int:
        """Delete images past their time that no live job reads."""
        in_use = exists(
            select(Job.id)
            .join(JobImage, JobImage.job_id == Job.id)
            .where(JobImage.image_id == Image.id, Job.state.in_(LIVE_STATES))
        )
        with self._write() as session:
            past = session.scalars(
                select(Image)
                .where(Image.expires_at < self._now(session), ~in_use)
                .limit(ROUND)
                .with_for_update(skip_locked=True)
            ).all()
            for image in past:
                session.delete(image)
                self._sweep(session, image.tenant_id, image_prefix(image.tenant_id, image.id))
            return len(past)

    @frees_space
    def expire_datasets(self) -> int:
        """Delete data sets past their time; a live job that reads one keeps it a while longer."""
        with self._write() as session:
            past = session.scalars(
                select(Dataset)
                .where(Dataset.expires_at < self._now(session))
                .limit(ROUND)
                .with_for_update(skip_locked=True)
            ).all()
            gone = 0
            for dataset in past:
                dataset_id, tenant_id = dataset.id, dataset.tenant_id
                if self._live_job_that(session, tenant_id, partial(_reads_dataset, dataset_id)):
                    continue
                session.delete(dataset)
                self._sweep(session, tenant_id, dataset_prefix(tenant_id, dataset_id))
                gone += 1
            return gone

    @frees_space
    def expire_models(self) -> int:
        """Delete models past their time; a live job that names one keeps it a while longer."""
        with self._write() as session:
            past = session.scalars(
                select(Model)
                .where(Model.expires_at < self._now(session))
                .limit(ROUND)
                .with_for_update(skip_locked=True)
            ).all()
            gone = 0
            for model in past:
                if self._live_job_that(session, model.tenant_id, partial(_names_model, model.id)):
                    continue
                self._sweep(session, model.tenant_id, model.object_key.rpartition("/")[0] + "/")
                session.delete(model)
                gone += 1
            return gone

    @frees_space
    def expire_idempotency_keys(self) -> int:
        """Forget idempotency keys past their time."""
        with self._write() as session:
            gone = session.execute(
                delete(IdempotencyKey)
                .where(IdempotencyKey.expires_at < db_now())
                .returning(IdempotencyKey.key)
                .execution_options(synchronize_session=False)
            )
            return len(gone.all())

    def due_sweeps(self) -> list[Sweep]:
        """Return prefixes of the object store to empty now."""
        with self._read() as session:
            return list(
                session.scalars(
                    select(Sweep)
                    .where(Sweep.due_at <= self._now(session))
                    .order_by(Sweep.due_at)
                    .limit(ROUND)
                )
            )

    @frees_space
    def swept(self, sweep: Sweep, *, again_after_seconds: float) -> None:
        """Record that a prefix was emptied; it is swept once more after the longest deadline."""
        with self._write() as session:
            row = session.get(Sweep, sweep.id, with_for_update=True)
            if row is None or row.last != sweep.last:
                return  # another keeper was faster
            if row.last:
                session.delete(row)
                return
            row.last, row.due_at = True, self._now(session) + again_after_seconds

    def empty_log(self) -> bool:
        """Take what was deleted out of SQLite's log; false while a reader is in the way."""
        file = database_file(self.engine)
        return file is None or empty_log(file)


def _reads_dataset(dataset_id: str, spec: JobSpec) -> bool:
    return dataset_id in spec.dataset_ids


def _names_model(model_id: str, spec: JobSpec) -> bool:
    return model_id in spec.model_ids
