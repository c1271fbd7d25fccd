"""Waits for jobs without holding a thread or a connection."""

import asyncio

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from services.api.auth import refuse_revoked
from services.api.resources import Resources
from shared.db.jobs import Snapshot
from shared.db.tables import FINAL_STATES, Artifact, Job


async def wait_until_final(
    request: Request, resources: Resources, job: Job, seconds: float
) -> tuple[Job, list[Artifact]] | None:
    """Return the job and its artifacts once it has ended, or as it is after ``seconds``.

    ``None`` when it has been deleted.

    Call it when the request's body has been read. Raises ``ClientDisconnect`` as soon as nobody
    waits for the answer any more, and the problems ``too-many-waiting`` and, where the key was
    revoked meanwhile, ``unauthorized``.
    """
    if seconds > 0 and job.state not in FINAL_STATES:
        gone = asyncio.create_task(_disconnected(request))
        news = resources.watcher.wait(job.id, after_seq=None, timeout=seconds)
        try:
            await _unless(gone, asyncio.ensure_future(news))
        finally:
            gone.cancel()
        await refuse_revoked(request, resources)
    return await run_in_threadpool(resources.repository.jobs.with_artifacts, job.tenant_id, job.id)


async def _unless(gone: asyncio.Task[None], news: asyncio.Future[Snapshot | None]) -> None:
    try:
        await asyncio.wait((gone, news), return_when=asyncio.FIRST_COMPLETED)
        if not news.done():
            raise ClientDisconnect
        await news
    finally:
        news.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
