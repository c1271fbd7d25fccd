"""Answers a request that created a job: its picture, its end, or where it is."""

from functools import partial

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from services.api.content import content_etag
from services.api.problems import problem_response, translate
from services.api.resources import Resources, missing_job
from services.api.schemas import VERDICT, JobView, job_url
from services.api.waiting import wait_until_final
from shared.db import OUTAGES
from shared.db.tables import FINAL_STATES, Artifact, Job
from shared.images import ENCODABLE, encode_as
from shared.images.cost import decoding_cost
from shared.problems import CATALOG, Problem

RETRY_AFTER = "1"


async def answer(
    request: Request,
    resources: Resources,
    job: Job,
    *,
    wait: float | None,
    images: tuple[str, ...],
    headers: dict[str, str],
) -> Response:
    """Answer after at most ``wait`` seconds; ``images`` are the types that the client prefers.

    The job is committed: whatever fails from here on, the answer says where it is.
    """
    headers = {"Location": job_url(job.id), "Cache-Control": "no-store", **headers}
    try:
        return await _answer(request, resources, job, wait=wait, images=images, headers=headers)
    except ClientDisconnect:
        raise
    except Exception as error:
        return _with(problem_response(translate(error)), headers)


async def _answer(
    request: Request,
    resources: Resources,
    job: Job,
    *,
    wait: float | None,
    images: tuple[str, ...],
    headers: dict[str, str],
) -> Response:
    artifacts: list[Artifact] = []
    if wait is not None:
        job, artifacts = await _waited(request, resources, job, wait)
    elif job.state in FINAL_STATES:  # a request that was repeated
        find = resources.repository.jobs.artifacts
        artifacts = await run_in_threadpool(find, job.tenant_id, job.id)
    if job.state not in FINAL_STATES:
        headers = {**headers, "Retry-After": RETRY_AFTER}
    headers = {**headers, **verdict_header(job)}
    if images:
        return await _main_image(resources, job, artifacts, images, headers)
    return await run_in_threadpool(_rendered, job, artifacts, headers)


def _rendered(job: Job, artifacts: list[Artifact], headers: dict[str, str]) -> Response:
    """Write the job as JSON. A large spec takes its time: use a thread."""
    view = JobView.of(job, artifacts).model_dump(mode="json")
    return JSONResponse(view, 201 if job.state in FINAL_STATES else 202, headers)


def verdict_header(job: Job) -> dict[str, str]:
    """Return the header with a job's verdict, for those who save its picture unseen."""
    verdict = (job.result or {}).get("verdict")
    return {VERDICT: str(verdict)} if verdict else {}


async def _waited(
    request: Request, resources: Resources, job: Job, seconds: float
) -> tuple[Job, list[Artifact]]:
    try:
        ended = await wait_until_final(request, resources, job, seconds)
    except (Problem, *OUTAGES):
        # Waiting is only a preference. An error now would make the client send its job again.
        if job.state in FINAL_STATES:
            raise  # its artifacts are not known, and an answer without them would be wrong
        return job, []
    if ended is None:
        raise missing_job(job.id)
    return ended


async def _main_image(
    resources: Resources,
    job: Job,
    artifacts: list[Artifact],
    wanted: tuple[str, ...],
    headers: dict[str, str],
) -> Response:
    """Answer with the picture itself, or with a problem: never with JSON to be saved as one."""
    if job.state not in FINAL_STATES:
        detail = "The job continues; its picture will be among its artifacts."
        return _with(problem_response(Problem("wait-timeout", detail, job=job.id)), headers)
    if job.state != "succeeded":
        return _with(problem_response(_end(job)), headers)
    main = (job.result or {}).get("main_artifact")
    artifact = next((row for row in artifacts if row.name == main), None)
    has = artifact.media_type if artifact else "no picture"
    fits = "image/*" in wanted or has in wanted
    into = next((media for media in wanted if media in ENCODABLE), None)
    if artifact is None or not has.startswith("image/") or not (fits or into):
        # The warnings say why there is none; with a picture asked for, they would go unseen.
        why = {} if artifact else {"warnings": (job.result or {}).get("warnings", [])}
        problem = Problem("not-acceptable", f"The job's main result is {has}.", job=job.id, **why)
        return _with(problem_response(problem), headers)
    data = await run_in_threadpool(resources.objects.get, artifact.object_key)
    location = f"{job_url(job.id)}/artifacts/{artifact.name}"
    if not fits and into is not None:
        work = partial(encode_as, into, data, resources.image_limits)
        data = await resources.decoding.run(job.tenant_id, decoding_cost(data), work)
        headers = {**headers, "Content-Location": location, "Bauta-Converted-From": has}
        return Response(data, 201, headers, media_type=into)
    headers = {**headers, "Content-Location": location, "ETag": content_etag(artifact.sha256)}
    return Response(data, 201, headers, media_type=artifact.media_type)


def _end(job: Job) -> Problem:
    """Return the problem that a job without a result ended with."""
    document = job.problem or {}
    slug = str(document.get("type", "")).rsplit("/", 1)[-1]
    detail = str(document.get("detail", f"The job is {job.state}."))
    standard = ("type", "title", "status", "detail")
    extra = {name: value for name, value in document.items() if name not in standard}
    return Problem(slug if slug in CATALOG else "job-failed", detail, **{**extra, "job": job.id})


def _with(response: Response, headers: dict[str, str]) -> Response:
    response.headers.update(headers)
    return response
