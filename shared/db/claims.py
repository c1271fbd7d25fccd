"""Queries of the worker's side. Every write is fenced: only the claim in force may make it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Executable, Row, delete, select, update
from sqlalchemy.orm import Session

from shared.db.engine import db_now
from shared.db.queries import CHECKPOINTS, Queries, job_prefix
from shared.db.statements import (
    CLAIM_ALIKE,
    CLAIM_NAMED,
    CLAIM_OLDEST,
    COMPANY,
    change_held,
    insertion,
    while_held,
)
from shared.db.tables import Artifact, Checkpoint, Event, Job
from shared.problems import Problem

KEPT_PROGRESS_EVENTS = 500
Ended = Job | Row[*tuple[Any, ...]]
Claimed = tuple[Job, bool]  # and whether others could share its batch


@dataclass(frozen=True, kw_only=True)
class NewArtifact:
    """A file of a result, its bytes already in the object store."""

    name: str
    media_type: str
    size: int
    sha256: str
    object_key: str
    image_id: str | None = None  # it was made of; ``None``: of all that the job reads


class ClaimQueries(Queries):
    """Jobs, as their workers see them."""

    def claim_batch(
        self,
        job_id: str,
        *,
        queues: Sequence[str],
        owner: str,
        lease_seconds: float,
        room: Callable[[Job], int],
    ) -> list[Job]:
        """Claim this job, or the one that has waited longest, and others for one batch with it.

        ``room`` says of the first how many may join it. Nothing joins a job that was ever lost, nor
        joins another: a poison job dies alone.
        """
        common = {"queues": tuple(queues), "claimer": owner, "lease_seconds": lease_seconds}
        with self._write() as session:
            claimed: list[Claimed] = []
            if job_id:
                claimed = self._claim(session, CLAIM_NAMED, {**common, "named": job_id})
            if not claimed:
                claimed = self._claim(session, CLAIM_OLDEST, {**common, "most": 1})
            if not claimed:
                return []
            ((first, has_company),) = claimed
            shares = has_company and first.batch_key is not None and first.losses == 0
            limit = room(first) if shares else 0
            if limit > 0:
                alike = {**common, "most": limit, "alike": first.batch_key}
                claimed += self._claim(session, CLAIM_ALIKE, alike)
            return [job for job, _ in claimed]

    def _claim(
        self, session: Session, statement: Executable, parameters: dict[str, Any]
    ) -> list[Claimed]:
        claimed = []
        for row in session.execute(statement, parameters).mappings():
            columns = dict(row)
            has_company = bool(columns.pop(COMPANY))
            job = Job(**columns)
            data = {"state": "running", "attempt": job.fence}
            self._event(session, job, "running", data, seq=job.event_seq)
            claimed.append((job, has_company))
        return sorted(claimed, key=lambda one: (one[0].queued_at, one[0].id))

    def renew(
        self, claims: Iterable[tuple[str, int]], *, owner: str, lease_seconds: float
    ) -> dict[str, str]:
        """Renew leases; returns the state of each job still held (``running``, ``cancelling``)."""
        held = {}
        with self._write() as session:
            for job_id, fence in claims:
                state = session.execute(
                    update(Job)
                    .where(*while_held(job_id, fence), Job.owner == owner)
                    .values(lease_expires_at=db_now() + lease_seconds)
                    .returning(Job.state)
                    .execution_options(synchronize_session=False)
                ).scalar_one_or_none()
                if state is not None:
                    held[job_id] = state
        return held

    def progress(self, job_id: str, fence: int, data: dict[str, Any]) -> str | None:
        """Record progress and an event; returns the job's state, ``None`` when not held."""
        with self._write() as session:
            job = self._change_held(session, job_id, fence, progress=data)
            if job is None:
                return None
            seq = self._event(session, job, "progress", data, seq=job.event_seq)
            if seq % 100 == 0:
                session.execute(
                    delete(Event).where(
                        Event.job_id == job_id,
                        Event.type == "progress",
                        Event.seq <= seq - KEPT_PROGRESS_EVENTS,
                    )
                )
            state: str = job.state
            return state

    def event(self, job_id: str, fence: int, kind: str, data: dict[str, Any]) -> bool:
        """Record an event of the job's own making; false when not held."""
        with self._write() as session:
            job = self._change_held(session, job_id, fence)
            if job is None:
                return False
            self._event(session, job, kind, data, seq=job.event_seq)
            return True

    def finish(
        self,
        job_id: str,
        fence: int,
        *,
        state: str,
        retention_seconds: float,
        result: dict[str, Any] | None = None,
        problem: Problem | None = None,
        artifacts: Sequence[NewArtifact] = (),
        progress: dict[str, Any] | None = None,
        followed: bool = False,
        stored: bool = True,
    ) -> bool:
        """End a job in one transaction; false when it is not held, and then nothing changed.

        ``progress``: the last, if it was not recorded; with ``followed`` it is an event, too, as
        those before it were. ``stored``: whether this claim may have put anything into the object
        store.
        """
        with self._write() as session:
            document = problem.document() if problem else None
            last = {} if progress is None else {"progress": progress}
            job = self._change_held(
                session,
                job_id,
                fence,
                events=2 if progress is not None and followed else 1,
                kept_seconds=retention_seconds,
                state=state,
                result=result,
                problem=document,
                **last,
            )
            if job is None:
                return False
            if artifacts:
                rows = [
                    {
                        "job_id": job_id,
                        "tenant_id": job.tenant_id,
                        "position": position,
                        "created_at": job.finished_at,
                        **vars(artifact),
                    }
                    for position, artifact in enumerate(artifacts)
                ]
                session.execute(insertion(Artifact), rows)
            self._sweep_attempts(session, job, keep=bool(artifacts), stored=stored)
            self._sweep_upload(session, job)
            if progress is not None and followed:
                self._event(session, job, "progress", progress, seq=job.event_seq - 1)
            data = {"state": state, "problem": document}
            self._event(session, job, state, data, seq=job.event_seq)
            return True

    def _sweep_attempts(
        self, session: Session, job: Ended, *, keep: bool, stored: bool = True
    ) -> None:
        """Empty what earlier claims, and this one's checkpoints, left in the object store."""
        if job.fence == 1 and not stored:
            return
        had = session.execute(
            delete(Checkpoint).where(Checkpoint.job_id == job.id).returning(Checkpoint.name)
        ).all()
        for fence in range(1, job.fence):
            self._sweep(session, job.tenant_id, job_prefix(job.tenant_id, job.id, fence))
        own = job_prefix(job.tenant_id, job.id, job.fence)
        if not keep:
            self._sweep(session, job.tenant_id, own)
        elif had:
            self._sweep(session, job.tenant_id, f"{own}{CHECKPOINTS}/")

    def hand_back(self, job_id: str, fence: int, *, ring_again_seconds: float) -> str | None:
        """Return a job to the queue without a loss; a cancelling one ends. Returns its state."""
        with self._write() as session:
            now = self._now(session)
            job = self._update_held(session, job_id, fence, owner=None)
            if job is None:
                return None
            if job.state == "cancelling":
                job.state, job.finished_at = "cancelled", now
                self._sweep_attempts(session, job, keep=False)
                self._sweep_upload(session, job)
            else:
                requeue(job, now=now, ring_at=now + ring_again_seconds)
            session.flush()
            self._event(session, job, job.state, {"state": job.state, "reason": "handed back"})
            return job.state

    def checkpoint(self, job_id: str, fence: int, files: dict[str, str]) -> bool:
        """Make ``files`` (name → object key) the job's newest checkpoint; false when not held."""
        with self._write() as session:
            job = self._change_held(session, job_id, fence, events=0)
            if job is None:
                return False
            session.execute(delete(Checkpoint).where(Checkpoint.job_id == job_id))
            now = self._now(session)
            session.add_all(
                Checkpoint(
                    job_id=job_id,
                    name=name,
                    tenant_id=job.tenant_id,
                    fence=fence,
                    object_key=key,
                    created_at=now,
                )
                for name, key in files.items()
            )
            return True

    def checkpoint_files(self, job_id: str) -> dict[str, str]:
        """Return the newest checkpoint's files (name → object key)."""
        with self._read() as session:
            rows = session.scalars(select(Checkpoint).where(Checkpoint.job_id == job_id))
            return {row.name: row.object_key for row in rows}

    def _change_held(
        self,
        session: Session,
        job_id: str,
        fence: int,
        *,
        events: int = 1,
        kept_seconds: float | None = None,
        **values: Any,
    ) -> Row[*tuple[Any, ...]] | None:
        """Change a job that is held, as ``statements.change_held`` does."""
        statement = change_held(frozenset(values), ends=kept_seconds is not None)
        parameters = {f"new_{name}": value for name, value in values.items()}
        parameters |= {"held_job": job_id, "held_fence": fence, "events": events}
        if kept_seconds is not None:
            parameters["kept_seconds"] = kept_seconds
        return session.execute(statement, parameters).one_or_none()

    def _update_held(self, session: Session, job_id: str, fence: int, **values: Any) -> Job | None:
        return session.scalars(
            update(Job)
            .where(*while_held(job_id, fence))
            .values(**values)
            .returning(Job)
            .execution_options(synchronize_session=False, populate_existing=True)
        ).one_or_none()


def requeue(job: Job, *, now: float, ring_at: float) -> None:
    """Put a claimed job back, at the end of the queue, keeping count of its running time."""
    job.run_seconds += max(0.0, now - (job.claimed_at or now))
    job.state, job.owner, job.lease_expires_at = "queued", None, None
    job.queued_at, job.ring_at, job.rings = now, ring_at, 0
