"""``/livez``, ``/readyz``, ``/metrics``, and what the problem types mean."""

from collections.abc import Callable
from shutil import disk_usage
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from services.api.auth import MayLookInside, Shared
from services.api.documentation import problems
from services.api.problems import problem_response
from services.api.resources import Resources
from shared.db.disk import database_file
from shared.db.migrate import is_current
from shared.problems import CATALOG, Problem

router = APIRouter(tags=["service"])


@router.get("/livez", response_class=PlainTextResponse)
async def livez() -> str:
    """Whether this process answers."""
    return "ok\n"


@router.get("/readyz", responses=problems(503))
def readyz(resources: Shared, inside: MayLookInside) -> Response:
    """Whether jobs can be taken and run: database, schema, object store, broker, disk space."""
    checks = {
        "database": _outcome(resources.repository.check),
        "schema": _outcome(lambda: _require_schema(is_current(resources.repository.engine))),
        "object_store": _outcome(resources.objects.check),
        "broker": _outcome(resources.doorbell.check),
        "disk": _outcome(lambda: _require_space(resources)),
    }
    failing = [name for name, outcome in checks.items() if outcome != "ok"]
    if not failing:
        shown: dict[str, Any] = {"checks": checks} if inside else {}
        return JSONResponse({"status": "ready", **shown})
    if not inside:
        return problem_response(Problem("not-ready", "The service is not ready."))
    detail = f"Not ready: {', '.join(failing)}."
    if failing == ["broker"]:
        detail += " Jobs are taken and kept; workers look for them by themselves."
    return problem_response(Problem("not-ready", detail, checks=checks))


def _require_schema(current: bool) -> None:
    if not current:
        raise RuntimeError("run `bauta db upgrade`")


def _require_space(resources: Resources) -> None:
    file = database_file(resources.repository.engine)
    for folder in (resources.objects.root, file and file.parent):
        if folder and disk_usage(folder).free < resources.settings.min_free_disk_bytes:
            raise RuntimeError("full: delete something, or lower BAUTA_MIN_FREE_DISK_BYTES")


def _outcome(check: Callable[[], object]) -> str:
    try:
        check()
    except RuntimeError as error:
        return str(error)[:100]
    except Exception as error:  # any failure of a check is its answer
        return f"unavailable ({type(error).__name__})"
    return "ok"


@router.get("/metrics", response_class=PlainTextResponse, responses=problems(401, 429))
def metrics(request: Request, inside: MayLookInside) -> Response:
    """Return Prometheus metrics: to this machine itself, elsewhere to those with a key."""
    if not inside:
        problem = Problem("unauthorized", "Send an API key: `Authorization: Bearer …`.")
        raise problem.with_headers(WWW_Authenticate="Bearer")
    return Response(request.app.state.metrics.render(), media_type="text/plain; version=0.0.4")


@router.get("/problems/{slug}", responses=problems(404))
def describe_problem(slug: str) -> dict[str, Any]:
    """Say what a problem type means."""
    if slug not in CATALOG:
        raise Problem("not-found", "There is no such problem type.")
    status, title = CATALOG[slug]
    return {"type": f"/problems/{slug}", "status": status, "title": title}
