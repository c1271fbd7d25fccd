"""Waits for jobs without holding a thread or a connection."""

import time

from starlette.concurrency import run_in_threadpool

from services.api.resources import Resources
from shared.db.jobs import Snapshot
from shared.db.tables import FINAL_STATES, Job


async def wait_until_final(
    resources: Resources, tenant: str, job: Job, seconds: float
) -> Job | None:
    """Return the job once it has ended, or as it is after ``seconds``; ``None`` when deleted."""
    give_up = time.monotonic() + seconds
    state, seq = job.state, job.event_seq
    while state not in FINAL_STATES and (left := give_up - time.monotonic()) > 0:
        snapshot: Snapshot | None = await resources.watcher.wait(
            job.id, after_seq=seq, timeout=left
        )
        if snapshot is None:
            break
        state, seq = snapshot.state, snapshot.event_seq
    return await run_in_threadpool(resources.repository.jobs.get, tenant, job.id)
