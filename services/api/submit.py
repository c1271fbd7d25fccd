"""``POST /v1/jobs/{kind}``: one route a job kind, made from its spec."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from services.api.auth import Shared, Tenant
from services.api.create_job import create
from services.api.documentation import job_answers, job_body, job_headers
from services.api.job_request import read_job_request
from services.api.schemas import JobView
from shared.problems import Problem
from shared.specs import SPECS, JobSpec

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
Endpoint = Callable[..., Awaitable[Response]]


def _create_endpoint(kind: str, spec_class: type[JobSpec]) -> Endpoint:
    async def create_one(
        request: Request,
        tenant: Tenant,
        resources: Shared,
        validate_only: Annotated[
            bool, Query(description="check the request and create nothing")
        ] = False,
        keep: Annotated[
            bool,
            Query(
                description=(
                    "`false`: the job, its photos and its files are deleted before it is "
                    "answered; needs `Prefer: wait=N`, and a job that lasts longer is stopped"
                )
            ),
        ] = True,
    ) -> Response:
        body = read_job_request(request, spec_class, kind, resources)
        return await create(
            request, tenant, resources, body, validate_only=validate_only, keep=keep
        )

    return create_one


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
