"""``POST /v1/jobs/{kind}``: one route a job kind, made from its spec."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from services.api.answers import answer
from services.api.auth import Shared, Tenant
from services.api.create_job import clean_uploads, create_job, shipped_models
from services.api.documentation import job_answers, job_body, job_headers
from services.api.headers import accepted_images, preferences, preferred_wait
from services.api.job_request import JobRequest, read_job_request
from services.api.resources import Resources
from services.api.schemas import JobView, Validated
from shared.problems import Problem
from shared.specs import SPECS, JobSpec

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
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
        wait = preferred_wait(request.headers, most=resources.settings.max_wait_seconds)
        images = accepted_images(request.headers.get("accept"))
        if images and wait is None and not validate_only:
            raise Problem("not-acceptable", "To get an image at once, add `Prefer: wait=N`.")
        if wait:
            resources.watcher.refuse_when_full()
        wanted = await read_job_request(request, spec_class, kind, resources)
        if validate_only:
            await clean_uploads(resources, tenant, wanted)
            await run_in_threadpool(_refuse_unknown, resources, tenant, wanted)
            spec = wanted.spec
            document = Validated(spec=spec.model_dump(mode="json"), queue=spec.queue)
            return JSONResponse(document.model_dump(mode="json"))
        job, is_new = await create_job(request, tenant, resources, wanted)
        headers = _applied(request, wait)
        if not is_new:
            headers["Idempotent-Replayed"] = "true"
        return await answer(request, resources, job, wait=wait, images=images, headers=headers)

    return create


def _refuse_unknown(resources: Resources, tenant: str, wanted: JobRequest) -> None:
    shipped = shipped_models(resources, wanted.spec)
    resources.repository.jobs.refuse_unknown(
        tenant, wanted.spec, own=wanted.uploads, shipped_models=shipped
    )


def _applied(request: Request, wait: float | None) -> dict[str, str]:
    """Say which preferences were applied (RFC 7240)."""
    applied = ["respond-async"] if "respond-async" in preferences(request.headers) else []
    if wait is not None:
        applied.append(f"wait={wait:g}")
    return {"Preference-Applied": ", ".join(applied)} if applied else {}


for _kind, _spec in SPECS.items():
    if _spec.endpoint is not None:
        continue
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
        responses=job_answers(),
        openapi_extra={**job_body(_spec), **job_headers()},
    )


@router.post("/{kind}", include_in_schema=False)
def create_unknown(kind: str, tenant: Tenant) -> Response:
    """Refuse a kind that does not exist."""
    del tenant
    elsewhere = SPECS[kind].endpoint if kind in SPECS else None
    if elsewhere is not None:
        raise Problem("unknown-kind", f"Such jobs are created by sending a file to {elsewhere}.")
    known = ", ".join(name for name, spec in SPECS.items() if spec.endpoint is None)
    raise Problem("unknown-kind", f"There is no job kind {kind[:60]!r}; there are: {known}.")
