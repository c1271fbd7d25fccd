"""``/v1/service``: what runs and waits, and the workers at it."""

from datetime import datetime

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from services.api.auth import Shared, Tenant
from services.api.documentation import problems
from services.api.schemas import moment
from shared.problems import Problem

router = APIRouter(prefix="/v1", tags=["service"])

WINDOW_SECONDS = 3600.0
MOST_ROWS = 5000


class LiveJobs(BaseModel):
    """Jobs that wait or run, of one kind in one queue."""

    queue: str
    kind: str
    state: str = Field(description="`queued`, `running` or `cancelling`")
    jobs: int
    oldest_seconds: float = Field(description="how long the oldest has waited, or runs")


class EndedJobs(BaseModel):
    """Jobs that ended within the window."""

    kind: str
    state: str
    jobs: int


class WorkerView(BaseModel):
    """A worker process that holds a job, or ended one within the window."""

    name: str
    job: str | None = Field(description="that it holds now")
    kind: str | None
    since: datetime | None = Field(description="when it took that job")
    jobs: int = Field(description="that it ended within the window")
    seen_at: datetime
    device: str | None = Field(description="where its last result was computed")


class ServiceStatus(BaseModel):
    """How busy the service is."""

    live: list[LiveJobs]
    ended: list[EndedJobs]
    workers: list[WorkerView]
    window_seconds: float = Field(description="how far back `ended` and `workers` look")


@router.get("/service", response_model=ServiceStatus, responses=problems(401, 403, 503))
def get_service(tenant: Tenant, resources: Shared) -> JSONResponse:
    """Say what runs and waits by kind and queue, and which workers are at it.

    It counts the jobs of everybody, so a service with API keys answers 403. A worker is known by
    the jobs that it took: one that has had none within the window is not listed.
    """
    del tenant
    if resources.settings.keys_required:
        raise Problem("not-for-keys", "The state of the whole service is for keyless use only.")
    activity = resources.repository.activity
    status = ServiceStatus(
        live=[
            LiveJobs(queue=queue, kind=kind, state=state, jobs=number, oldest_seconds=seconds)
            for queue, kind, state, number, seconds in activity.live()
        ],
        ended=[
            EndedJobs(kind=kind, state=state, jobs=number)
            for kind, state, number in activity.ended(within_seconds=WINDOW_SECONDS)
        ],
        workers=[
            WorkerView(
                name=worker.name,
                job=worker.job_id,
                kind=worker.kind,
                since=moment(worker.since),
                jobs=worker.jobs,
                seen_at=moment(worker.seen_at),
                device=worker.device,
            )
            for worker in activity.workers(within_seconds=WINDOW_SECONDS, limit=MOST_ROWS)
        ],
        window_seconds=WINDOW_SECONDS,
    )
    return JSONResponse(status.model_dump(mode="json"), headers={"Cache-Control": "no-store"})
