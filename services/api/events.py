"""``/v1/jobs/{id}/events``: what happens to a job, as server-sent events that resume."""

import json
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from services.api.auth import Shared, Tenant, refuse_revoked
from services.api.documentation import problems
from services.api.resources import Resources, found_job
from services.api.schemas import moment
from shared.db.tables import FINAL_STATES, Event, Job
from shared.problems import Problem

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

KEEP_ALIVE_SECONDS = 15.0
KEY_CHECK_SECONDS = 3.0
LONGEST_STREAM_SECONDS = 3600.0
PAGE = 200


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {"description": "server-sent events", "content": {"text/event-stream": {}}},
        **problems(400, 401, 404, 429, 503),
    },
)
async def stream_events(
    job_id: Annotated[str, Path(description="the job's id")],
    request: Request,
    tenant: Tenant,
    resources: Shared,
) -> Response:
    """Stream the job's events. Their ids number them; `Last-Event-ID` goes on after one.

    The stream ends with the job, after an hour, and within seconds after its key was revoked.
    """
    job = await run_in_threadpool(found_job, resources, tenant, job_id)
    after = min(_last_event_id(request), job.event_seq)
    resources.watcher.refuse_when_full()
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if request.scope.get("bauta.head"):
        return Response(media_type="text/event-stream", headers=headers)
    return StreamingResponse(
        _events(request, resources, tenant, job_id, after),
        media_type="text/event-stream",
        headers=headers,
    )


def _last_event_id(request: Request) -> int:
    value = request.headers.get("last-event-id", "0").strip() or "0"
    if not value.isascii() or not value.isdigit() or len(value) > 15:
        raise Problem("invalid-header", "`Last-Event-ID` takes the id of an event.")
    return int(value)


async def _events(
    request: Request, resources: Resources, tenant: str, job_id: str, after: int
) -> AsyncIterator[bytes]:
    now = time.monotonic()
    ends, alive = now + LONGEST_STREAM_SECONDS, now
    yield b"retry: 1000\n\n"
    while time.monotonic() < ends and not resources.watcher.closing:
        try:
            await refuse_revoked(request, resources)
        except Problem:
            return  # its key opens nothing any more
        job, events = await run_in_threadpool(_news, resources, tenant, job_id, after)
        for event in events:
            yield _encoded(event)
            after = event.seq
        if job is not None and events and (len(events) == PAGE or after > job.event_seq):
            continue
        if job is None or job.state in FINAL_STATES:
            return
        after = max(after, job.event_seq)
        if await resources.watcher.wait(job_id, after_seq=after, timeout=KEY_CHECK_SECONDS):
            continue
        if time.monotonic() - alive >= KEEP_ALIVE_SECONDS:
            alive = time.monotonic()
            yield b": still here\n\n"


def _news(
    resources: Resources, tenant: str, job_id: str, after: int
) -> tuple[Job | None, list[Event]]:
    # Read the job first; later changes appear in the events.
    job = resources.repository.jobs.get(tenant, job_id)
    return job, resources.repository.jobs.events_after(tenant, job_id, after, limit=PAGE)


def _encoded(event: Event) -> bytes:
    at = moment(event.created_at).isoformat()
    data = json.dumps({**event.data, "at": at}, separators=(",", ":"))
    return f"id: {event.seq}\nevent: {event.type}\ndata: {data}\n\n".encode()
