"""``/v1/events``: what happens to all of a tenant's jobs, as one stream that resumes."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from services.api.auth import Shared, Tenant, refuse_revoked
from services.api.documentation import header, problems
from services.api.events import KEEP_ALIVE_SECONDS, KEY_CHECK_SECONDS, LONGEST_STREAM_SECONDS
from services.api.resources import Resources
from services.api.schemas import JobSummary
from shared.db.activity import Mark
from shared.problems import Problem

router = APIRouter(prefix="/v1", tags=["jobs"])

MOST_STREAMS_A_TENANT = 64
MOST_JOBS = 2000  # followed at once: the newest
BATCH = 100
LOOK_SECONDS = 0.25  # from one look to the next, at least
# A transaction may commit after a later moment was looked at: look back so far, and send no job
# twice in the same state.
OVERLAP_SECONDS = 5.0


class StreamCount:
    """How many streams each tenant has open at this process."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def refuse_many(self, tenant: str) -> None:
        """Raise ``too-many-waiting`` when the tenant has as many as it may."""
        if self._open[tenant] >= MOST_STREAMS_A_TENANT:
            detail = f"{self._open[tenant]} streams of this key's owner are open already."
            raise Problem("too-many-waiting", detail).with_headers(Retry_After="5")

    @contextmanager
    def one_more(self, tenant: str) -> Iterator[None]:
        """Count a stream while it lasts."""
        self._open[tenant] += 1
        try:
            yield
        finally:
            self._open[tenant] -= 1
            if not self._open[tenant]:
                del self._open[tenant]


_LAST_EVENT_ID = header("Last-Event-ID", "goes on after this event")


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={
        200: {"description": "server-sent events", "content": {"text/event-stream": {}}},
        **problems(400, 401, 429, 503),
    },
    openapi_extra={"parameters": [_LAST_EVENT_ID]},
)
async def stream_all_events(request: Request, tenant: Tenant, resources: Shared) -> Response:
    """Stream how all your jobs are, so that a list of them needs no polling.

    An event `job` carries a job as `GET /v1/jobs` lists it, once when it is created and again after
    each change, at most four times a second; an event `deleted` carries the `id` of a job that is
    gone. A new stream begins with the jobs that wait or run. One with `Last-Event-ID` begins with
    those and with what has changed since; a change may come twice and none is left out. At most
    the newest 2,000 jobs are followed. The stream ends after an hour, and within seconds after its
    key was revoked.
    """
    since = _since(request)
    streams: StreamCount = request.app.state.tenant_streams
    streams.refuse_many(tenant)
    resources.watcher.refuse_when_full()
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if request.scope.get("bauta.head"):
        return Response(media_type="text/event-stream", headers=headers)

    async def counted() -> AsyncIterator[bytes]:
        with streams.one_more(tenant):
            async for piece in _events(request, resources, tenant, since):
                yield piece

    return StreamingResponse(counted(), media_type="text/event-stream", headers=headers)


def _since(request: Request) -> float | None:
    value = request.headers.get("last-event-id", "").strip()
    if not value:
        return None
    whole, _, part = value.partition(".")
    digits = whole + part
    if not digits.isascii() or not digits.isdigit() or len(value) > 20 or not whole:
        raise Problem("invalid-header", "`Last-Event-ID` takes the id of an event.")
    return float(value)


async def _events(
    request: Request, resources: Resources, tenant: str, since: float | None
) -> AsyncIterator[bytes]:
    began = alive = time.monotonic()
    sent: dict[str, int] = {}  # number of the last event of each job that was told
    there: dict[str, float | None] = {}  # when each of those jobs ended that should be found again
    yield b"retry: 1000\n\n"
    while time.monotonic() - began < LONGEST_STREAM_SECONDS and not resources.watcher.closing:
        try:
            await refuse_revoked(request, resources)
        except Problem:
            return  # its key opens nothing any more
        commits = resources.watcher.commits
        looked = time.monotonic()
        from_ = None if since is None else since - OVERLAP_SECONDS
        find = resources.repository.activity.changed
        now, marks = await run_in_threadpool(find, tenant, from_, limit=MOST_JOBS)
        news = [mark for mark in reversed(marks) if sent.get(mark.job_id) != mark.event_seq]
        for start in range(0, len(news), BATCH):
            batch = news[start : start + BATCH]
            for index, event in enumerate(
                await run_in_threadpool(_encoded, resources, tenant, batch)
            ):
                # Until the last is out, a reader who is cut off has to come back to all of them.
                moment = now if start + index + 1 == len(news) else since
                yield event if moment is None else f"id: {moment:.6f}\n".encode() + event
            alive = time.monotonic()
        sent = {mark.job_id: mark.event_seq for mark in marks}
        for job_id in _vanished(there, marks, from_):
            yield _deleted(job_id)
        there = {mark.job_id: mark.finished_at for mark in marks if not mark.deleted}
        if since is None and not news:
            # Something to resume from, though nothing has happened yet.
            yield f"id: {now:.6f}\nevent: ready\ndata: {{}}\n\n".encode()
        since = now
        await resources.watcher.wait_for_any(after=commits, timeout=KEY_CHECK_SECONDS)
        await asyncio.sleep(max(0.0, LOOK_SECONDS - (time.monotonic() - looked)))
        if time.monotonic() - alive >= KEEP_ALIVE_SECONDS:
            alive = time.monotonic()
            yield b": still here\n\n"


def _vanished(there: dict[str, float | None], marks: list[Mark], since: float | None) -> list[str]:
    """Return the jobs that should have been found and were not: not even a tombstone is left."""
    if len(marks) == MOST_JOBS:
        return []  # older ones were passed over
    found = {mark.job_id for mark in marks}
    return [
        job_id
        for job_id, end in there.items()
        if job_id not in found and (end is None or (since is not None and end > since))
    ]


def _deleted(job_id: str) -> bytes:
    return f"event: deleted\ndata: {json.dumps({'id': job_id})}\n\n".encode()


def _encoded(resources: Resources, tenant: str, marks: list[Mark]) -> list[bytes]:
    wanted = [mark.job_id for mark in marks if not mark.deleted]
    rows = {row.id: row for row in resources.repository.activity.listed(tenant, wanted)}
    events = []
    for mark in marks:
        row = rows.get(mark.job_id)
        if row is None:
            events.append(_deleted(mark.job_id))
        else:
            events.append(f"event: job\ndata: {JobSummary.of(row).model_dump_json()}\n\n".encode())
    return events
