"""Waits for jobs without holding a thread or a connection."""

import asyncio
import time

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from services.api.resources import Resources
from shared.db.jobs import Snapshot
from shared.db.tables import FINAL_STATES, Job


async def wait_until_final(
    request: Request, resources: Resources, job: Job, seconds: float
) -> Job | None:
    """Return the job once it has ended, or as it is after ``seconds``; ``None`` when deleted.

    Call it when the request's body has been read. Raises ``ClientDisconnect`` as soon as nobody
    waits for the answer any more, and the problem ``too-many-waiting``.
    """
    give_up = time.monotonic() + seconds
    state, seq = job.state, job.event_seq
    gone = asyncio.create_task(_disconnected(request))
    try:
        while state not in FINAL_STATES and (left := give_up - time.monotonic()) > 0:
            news = resources.watcher.wait(job.id, after_seq=seq, timeout=left)
            snapshot = await _unless(gone, asyncio.ensure_future(news))
            if snapshot is None:
                break
            state, seq = snapshot.state, snapshot.event_seq
    finally:
        gone.cancel()
    return await run_in_threadpool(resources.repository.jobs.get, job.tenant_id, job.id)


async def _unless(
    gone: asyncio.Task[None], news: asyncio.Future[Snapshot | None]
) -> Snapshot | None:
    try:
        await asyncio.wait((gone, news), return_when=asyncio.FIRST_COMPLETED)
        if not news.done():
            raise ClientDisconnect
        return await news
    finally:
        news.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
