"""Queries across jobs: what changed for a tenant since a moment, and how busy the service is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select

from shared.db.listing import ListedJob, listed_jobs
from shared.db.queries import Queries
from shared.db.tables import FINAL_STATES, HELD_STATES, LIVE_STATES, Job

LATE_EXPIRY_SECONDS = 3600.0  # the keeper may wipe a job so long after its time


@dataclass(frozen=True)
class Mark:
    """A job that has changed, or may change: its last event's number."""

    job_id: str
    event_seq: int
    finished_at: float | None  # null: it lives
    deleted: bool


@dataclass(frozen=True)
class WorkerSeen:
    """A worker process, as the jobs that it claimed show it."""

    name: str
    job_id: str | None  # that it holds
    kind: str | None
    since: float | None  # when it claimed that job
    jobs: int  # that it ended within the window
    seen_at: float
    device: str | None  # where its last result was computed


class ActivityQueries(Queries):
    """What happens, over many jobs."""

    def changed(
        self, tenant_id: str, since: float | None, *, limit: int
    ) -> tuple[float, list[Mark]]:
        """Return the time, and the tenant's jobs that are live or changed after ``since``.

        Those created last come first. ``None``: only the live ones. A job changes while it lives,
        at its end, and when it is deleted or expires.
        """
        ways: list[ColumnElement[bool]] = [Job.state.in_(LIVE_STATES)]
        if since is not None:
            expired = and_(Job.state == "expired", Job.expires_at > since - LATE_EXPIRY_SECONDS)
            ways += [Job.finished_at > since, Job.deleted_at > since, expired]
        query = (
            select(Job.id, Job.event_seq, Job.finished_at, Job.deleted_at)
            .where(Job.tenant_id == tenant_id, or_(*ways))
            .order_by(Job.created_at.desc(), Job.id.desc())
            .limit(limit)
        )
        with self._read() as session:
            now = self._now(session)
            rows = session.execute(query).all()
        return now, [Mark(job_id, seq, end, gone is not None) for job_id, seq, end, gone in rows]

    def listed(self, tenant_id: str, job_ids: Sequence[str]) -> list[ListedJob]:
        """Return what a list says of these jobs; of those that are gone, nothing."""
        query = listed_jobs(tenant_id, limit=len(job_ids)).where(Job.id.in_(job_ids))
        with self._read() as session:
            return [ListedJob(**row) for row in session.execute(query).mappings()]

    def live(self) -> list[tuple[str, str, str, int, float]]:
        """Return ``(queue, kind, state, number, age)`` of live jobs of all tenants.

        ``age``: seconds that the oldest of them has been queued, or running.
        """
        began = func.min(func.coalesce(Job.claimed_at, Job.queued_at))
        waits = func.min(Job.queued_at)
        query = (
            select(Job.queue, Job.kind, Job.state, func.count(), began, waits)
            .where(Job.state.in_(LIVE_STATES))
            .group_by(Job.queue, Job.kind, Job.state)
            .order_by(Job.queue, Job.kind, Job.state)
        )
        with self._read() as session:
            now = self._now(session)
            rows = session.execute(query).all()
        return [
            (queue, kind, state, number, max(0.0, now - (since if state == "queued" else start)))
            for queue, kind, state, number, start, since in rows
        ]

    def ended(self, *, within_seconds: float) -> list[tuple[str, str, int]]:
        """Return ``(kind, state, number)`` of the jobs that ended so lately, of all tenants."""
        with self._read() as session:
            since = self._now(session) - within_seconds
            rows = session.execute(
                select(Job.kind, Job.state, func.count())
                .where(Job.finished_at > since, Job.state.in_(FINAL_STATES))
                .group_by(Job.kind, Job.state)
                .order_by(Job.kind, Job.state)
            )
            return [(kind, state, number) for kind, state, number in rows]

    def workers(self, *, within_seconds: float, limit: int) -> list[WorkerSeen]:
        """Return the workers that hold a job or ended one so lately, the last seen first."""
        with self._read() as session:
            now = self._now(session)
            held = and_(Job.state.in_(HELD_STATES), Job.lease_expires_at > now)
            rows = session.execute(
                select(
                    *(Job.owner, Job.id, Job.kind, Job.state, Job.claimed_at, Job.finished_at),
                    Job.result["device"].as_string().label("device"),
                )
                .where(Job.owner.is_not(None), or_(held, Job.finished_at > now - within_seconds))
                .order_by(Job.claimed_at.desc())
                .limit(limit)
            ).all()
        return _by_worker(rows, now)


def _by_worker(rows: Sequence[Any], now: float) -> list[WorkerSeen]:
    """Put the rows of each owner together; they come with the last claimed first."""
    found: dict[str, WorkerSeen] = {}
    for row in rows:
        before = found.get(row.owner)
        holds = row.state in HELD_STATES
        current = row if holds else None
        seen_at = now if holds else (row.finished_at or row.claimed_at or 0.0)
        found[row.owner] = WorkerSeen(
            name=row.owner,
            job_id=current.id if current else (before.job_id if before else None),
            kind=current.kind if current else (before.kind if before else None),
            since=current.claimed_at if current else (before.since if before else None),
            jobs=(before.jobs if before else 0) + (not holds),
            seen_at=max(seen_at, before.seen_at if before else 0.0),
            device=(before.device if before else None) or row.device,
        )
    return sorted(found.values(), key=lambda worker: (-worker.seen_at, worker.name))
