"""``/v1/jobs``: list, read, cancel, delete, artifacts."""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from services.api.answers import RETRY_AFTER, verdict_header
from services.api.auth import Shared, Tenant
from services.api.content import serve
from services.api.documentation import problems
from services.api.headers import matches, preferred_wait
from services.api.paging import next_link, page_token, read_page_token
from services.api.resources import missing_job
from services.api.schemas import JobPage, JobSummary, JobView, is_id, job_url
from services.api.waiting import wait_until_final
from shared.db.tables import FINAL_STATES
from shared.problems import Problem

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
JobId = Annotated[str, Path(description="the job's id")]
_ARTIFACT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@router.get("", response_model=JobPage, responses=problems(400, 401, 422, 503))
def list_jobs(
    tenant: Tenant,
    resources: Shared,
    kind: Annotated[str | None, Query(pattern=r"^[a-z0-9-]{1,100}$")] = None,
    state: Annotated[
        Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled", "expired"]
        | None,
        Query(),
    ] = None,
    page_size: Annotated[int, Query(ge=1, le=200)] = 50,
    token: Annotated[str | None, Query(alias="page_token", max_length=500)] = None,
) -> Response:
    """List jobs, newest first, each without spec, result and files: those are at its `url`."""
    jobs = resources.repository.jobs.page(
        tenant,
        limit=page_size + 1,
        kind=kind,
        state=state,
        before=read_page_token(token, "job") if token else None,
    )
    shown, more = jobs[:page_size], len(jobs) > page_size
    following = page_token(shown[-1].created_at, shown[-1].id) if more else None
    page = JobPage(jobs=[JobSummary.of(job) for job in shown], next_page_token=following)
    headers = {"Cache-Control": "no-store"}
    if following is not None:
        headers["Link"] = next_link(
            "/v1/jobs", kind=kind, state=state, page_size=page_size, page_token=following
        )
    return JSONResponse(page.model_dump(mode="json"), headers=headers)


@router.get("/{job_id}", response_model=JobView, responses=problems(400, 401, 404, 429, 503))
async def get_job(job_id: JobId, request: Request, tenant: Tenant, resources: Shared) -> Response:
    """Return a job. `Prefer: wait=N` answers when it has ended, at the latest after N seconds."""
    wait = preferred_wait(request.headers, most=resources.settings.max_wait_seconds)
    read = resources.repository.jobs.with_artifacts
    found = await run_in_threadpool(read, tenant, job_id)
    applied = {}
    if found is not None and wait is not None:
        applied["Preference-Applied"] = f"wait={wait:g}"
        found = await wait_until_final(request, resources, found[0], wait)
    if found is None:
        raise missing_job(job_id)
    job, artifacts = found
    etag = f'"{job.event_seq}-{job.state}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache", **applied}
    headers |= verdict_header(job)
    if job.state not in FINAL_STATES:
        headers["Retry-After"] = RETRY_AFTER
    if matches(etag, request.headers.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    return JSONResponse(JobView.of(job, artifacts).model_dump(mode="json"), headers=headers)


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    response_model=JobView,
    responses=problems(401, 404, 409, 503),
)
def cancel_job(job_id: JobId, tenant: Tenant, resources: Shared) -> Response:
    """Ask a job to stop. A queued job stops at once, a running one within about a second."""
    job = resources.repository.jobs.cancel(tenant, job_id) if is_id(job_id, "job") else None
    if job is None:
        raise missing_job(job_id)
    view = JobView.of(job, []).model_dump(mode="json")
    return JSONResponse(view, 202, {"Location": job_url(job.id)})


@router.delete("/{job_id}", status_code=204, responses=problems(401, 404, 503))
def delete_job(job_id: JobId, tenant: Tenant, resources: Shared) -> Response:
    """Delete a job with its images, artifacts and events; a live one is stopped first."""
    if not (is_id(job_id, "job") and resources.repository.jobs.purge(tenant, job_id)):
        raise missing_job(job_id)
    return Response(status_code=204)


@router.get(
    "/{job_id}/artifacts/{name}", response_class=Response, responses=problems(401, 404, 416, 503)
)
async def get_artifact(
    job_id: JobId,
    name: Annotated[str, Path(description="the artifact's name")],
    request: Request,
    tenant: Tenant,
    resources: Shared,
) -> Response:
    """Return a file of the result."""
    row = None
    if is_id(job_id, "job") and _ARTIFACT_NAME.fullmatch(name):
        find = resources.repository.jobs.artifact
        row = await run_in_threadpool(find, tenant, job_id, name)
    if row is None:
        raise Problem("not-found", "There is no such artifact.")
    return await serve(
        request,
        resources,
        key=row.object_key,
        size=row.size,
        sha256=row.sha256,
        media_type=row.media_type,
        filename=row.name,
    )
