"""``/v1/jobs``: create, list, read, cancel, delete, artifacts."""

import base64
import binascii
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from services.api.auth import Shared, Tenant
from services.api.content import serve
from services.api.create_job import clean_uploads, create_job
from services.api.documentation import job_body, problems
from services.api.headers import accepted_images, matches, preferred_wait
from services.api.job_request import read_job_request
from services.api.problems import problem_response
from services.api.resources import Resources
from services.api.schemas import JobPage, JobView, Validated, job_url
from services.api.waiting import wait_until_final
from shared.db.tables import FINAL_STATES, Artifact, Job
from shared.problems import CATALOG, Problem
from shared.specs import SPECS, JobSpec

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
JobId = Annotated[str, Path(description="the job's id")]
RETRY_AFTER = "1"
Endpoint = Callable[..., Awaitable[Response]]


def _create_endpoint(kind: str, spec_class: type[JobSpec]) -> Endpoint:
    async def create(
        request: Request,
        tenant: Tenant,
        resources: Shared,
        validate_only: Annotated[
            bool, Query(description="check the request and create nothing")
        ] = False,
    ) -> Response:
        wait = preferred_wait(
            request.headers.get("prefer"), most=resources.settings.max_wait_seconds
        )
        images = accepted_images(request.headers.get("accept"))
        if images and wait is None and not validate_only:
            raise Problem("not-acceptable", "To get an image at once, add `Prefer: wait=N`.")
        wanted = await read_job_request(request, spec_class, kind, resources)
        if validate_only:
            await clean_uploads(resources, wanted)
            document = Validated(spec=wanted.spec.model_dump(mode="json"))
            return JSONResponse(document.model_dump(mode="json"))
        job, is_new = await create_job(request, tenant, resources, wanted)
        return await _answer(request, tenant, resources, job, is_new, wait, images)

    return create


for _kind, _spec in SPECS.items():
    router.add_api_route(
        f"/{_kind}",
        _create_endpoint(_kind, _spec),
        methods=["POST"],
        status_code=202,
        response_model=JobView,
        summary=_spec.summary,
        description=(
            f"{_spec.summary}. Answers 202 with a `Location`; with `Prefer: wait=N` 201 when the "
            "job finished in time; with `Accept: image/*` besides, its main picture itself."
        ),
        operation_id=f"create_{_kind.replace('-', '_')}_job",
        responses={
            200: {"model": Validated, "description": "valid (`validate_only`)"},
            201: {"model": JobView, "description": "finished within the wait"},
            **problems(400, 401, 406, 413, 415, 422, 429, 503, 504, 507),
        },
        openapi_extra=job_body(_spec),
    )


@router.post("/{kind}", include_in_schema=False)
def create_unknown(kind: str, tenant: Tenant) -> Response:
    """Refuse a kind that does not exist."""
    del tenant
    known = ", ".join(SPECS)
    raise Problem("unknown-kind", f"There is no job kind {kind[:60]!r}; there are: {known}.")


async def _answer(
    request: Request,
    tenant: str,
    resources: Resources,
    job: Job,
    is_new: bool,
    wait: float | None,
    images: tuple[str, ...],
) -> Response:
    del request
    headers = {"Location": job_url(job.id), "Cache-Control": "no-store"}
    if not is_new:
        headers["Idempotent-Replayed"] = "true"
    if wait is not None:
        headers["Preference-Applied"] = f"wait={wait:g}"
        ended = await wait_until_final(resources, tenant, job, wait)
        if ended is None:
            raise Problem("not-found", "The job was deleted while this request waited for it.")
        job = ended
    artifacts = await run_in_threadpool(resources.repository.jobs.artifacts, tenant, job.id)
    if images:
        return await _main_image(resources, job, artifacts, images, headers)
    view = JobView.of(job, artifacts).model_dump(mode="json")
    finished = wait is not None and job.state in FINAL_STATES
    if not finished:
        headers["Retry-After"] = RETRY_AFTER
    return JSONResponse(view, 201 if finished else 202, headers)


async def _main_image(
    resources: Resources,
    job: Job,
    artifacts: list[Artifact],
    wanted: tuple[str, ...],
    headers: dict[str, str],
) -> Response:
    """Answer with the picture itself, or with a problem: never with JSON to be saved as one."""
    if job.state not in FINAL_STATES:
        detail = "The job goes on; its picture will be among its artifacts."
        problem = Problem("wait-timeout", detail, job=job.id)
        return _with(problem_response(problem), {**headers, "Retry-After": RETRY_AFTER})
    if job.problem is not None:
        slug = str(job.problem["type"]).rsplit("/", 1)[-1]
        extra = {
            name: value
            for name, value in job.problem.items()
            if name not in ("type", "title", "status", "detail")
        }
        known = slug if slug in CATALOG else "job-failed"
        problem = Problem(known, str(job.problem["detail"]), **{**extra, "job": job.id})
        return _with(problem_response(problem), headers)
    main = (job.result or {}).get("main_artifact")
    artifact = next((row for row in artifacts if row.name == main), None)
    fits = artifact is not None and any(
        media in ("image/*", artifact.media_type) for media in wanted
    )
    if artifact is None or not fits or not artifact.media_type.startswith("image/"):
        has = artifact.media_type if artifact else "no picture"
        problem = Problem("not-acceptable", f"The job's main result is {has}.", job=job.id)
        return _with(problem_response(problem), headers)
    data = await run_in_threadpool(resources.objects.get, artifact.object_key)
    location = f"{job_url(job.id)}/artifacts/{artifact.name}"
    headers = {**headers, "Content-Location": location, "ETag": f'"{artifact.sha256[:32]}"'}
    return Response(data, 201, headers, media_type=artifact.media_type)


def _with(response: Response, headers: dict[str, str]) -> Response:
    response.headers.update(headers)
    return response


@router.get("", response_model=JobPage, responses=problems(400, 401, 422, 503))
def list_jobs(
    tenant: Tenant,
    resources: Shared,
    kind: Annotated[str | None, Query(max_length=100)] = None,
    state: Annotated[
        Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled", "expired"]
        | None,
        Query(),
    ] = None,
    page_size: Annotated[int, Query(ge=1, le=200)] = 50,
    page_token: Annotated[str | None, Query(max_length=500)] = None,
) -> Response:
    """List jobs, newest first."""
    jobs = resources.repository.jobs.page(
        tenant,
        limit=page_size + 1,
        kind=kind,
        state=state,
        before=_read_token(page_token) if page_token else None,
    )
    shown, more = jobs[:page_size], len(jobs) > page_size
    token = _token(shown[-1]) if more else None
    artifacts = resources.repository.jobs.artifacts_of(tenant, [job.id for job in shown])
    page = JobPage(
        jobs=[JobView.of(job, artifacts.get(job.id, [])) for job in shown], next_page_token=token
    )
    headers = {"Cache-Control": "no-store"}
    if token is not None:
        given = {"kind": kind, "state": state, "page_size": page_size, "page_token": token}
        query = urlencode({name: value for name, value in given.items() if value is not None})
        headers["Link"] = f'</v1/jobs?{query}>; rel="next"'
    return JSONResponse(page.model_dump(mode="json"), headers=headers)


@router.get("/{job_id}", response_model=JobView, responses=problems(400, 401, 404, 429, 503))
async def get_job(job_id: JobId, request: Request, tenant: Tenant, resources: Shared) -> Response:
    """Return a job. `Prefer: wait=N` answers when it has ended, at the latest after N seconds."""
    wait = preferred_wait(request.headers.get("prefer"), most=resources.settings.max_wait_seconds)
    job = await run_in_threadpool(_found, resources, tenant, job_id)
    applied = {}
    if wait is not None:
        applied["Preference-Applied"] = f"wait={wait:g}"
        ended = await wait_until_final(resources, tenant, job, wait)
        if ended is None:
            raise _missing(job_id)
        job = ended
    etag = f'"{job.event_seq}-{job.state}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache", **applied}
    if job.state not in FINAL_STATES:
        headers["Retry-After"] = RETRY_AFTER
    if matches(etag, request.headers.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    artifacts = await run_in_threadpool(resources.repository.jobs.artifacts, tenant, job.id)
    return JSONResponse(JobView.of(job, artifacts).model_dump(mode="json"), headers=headers)


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    response_model=JobView,
    responses=problems(401, 404, 409, 503),
)
def cancel_job(job_id: JobId, tenant: Tenant, resources: Shared) -> Response:
    """Ask a job to stop. A queued job stops at once, a running one within about a second."""
    job = resources.repository.jobs.cancel(tenant, job_id)
    if job is None:
        raise _missing(job_id)
    view = JobView.of(job, []).model_dump(mode="json")
    return JSONResponse(view, 202, {"Location": job_url(job.id)})


@router.delete("/{job_id}", status_code=204, responses=problems(401, 404, 503))
def delete_job(job_id: JobId, tenant: Tenant, resources: Shared) -> Response:
    """Delete a job with its images, artifacts and events; a live one is stopped first."""
    if not resources.repository.jobs.purge(tenant, job_id):
        raise _missing(job_id)
    return Response(status_code=204)


@router.get(
    "/{job_id}/artifacts/{name}", response_class=Response, responses=problems(401, 404, 416, 503)
)
def get_artifact(
    job_id: JobId,
    name: Annotated[str, Path(description="the artifact's name")],
    request: Request,
    tenant: Tenant,
    resources: Shared,
) -> Response:
    """Return a file of the result."""
    row = resources.repository.jobs.artifact(tenant, job_id, name)
    if row is None:
        raise Problem("not-found", "There is no such artifact.")
    return serve(
        request,
        resources,
        key=row.object_key,
        size=row.size,
        sha256=row.sha256,
        media_type=row.media_type,
        filename=row.name,
    )


def _found(resources: Resources, tenant: str, job_id: str) -> Job:
    job = resources.repository.jobs.get(tenant, job_id)
    if job is None:
        raise _missing(job_id)
    return job


def _missing(job_id: str) -> Problem:
    return Problem("not-found", f"There is no job {job_id[:60]!r}.")


def _token(job: Job) -> str:
    return base64.urlsafe_b64encode(json.dumps([job.created_at, job.id]).encode()).decode()


def _read_token(token: str) -> tuple[float, str]:
    try:
        value: Any = json.loads(base64.urlsafe_b64decode(token.encode()))
        created_at, job_id = value
        return float(created_at), str(job_id)
    except (binascii.Error, ValueError, TypeError) as error:
        raise Problem("invalid-page-token", "Use a token from `next_page_token`.") from error
