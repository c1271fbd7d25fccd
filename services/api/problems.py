"""Every error as ``application/problem+json``."""

import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from shared.db import OUTAGES, first_line
from shared.db.disk import is_full
from shared.images import ImageRejectedError
from shared.memory import is_out_of_memory
from shared.objects import ObjectMissingError, ObjectStoreFullError, ObjectStoreUnavailableError
from shared.problems import Problem

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
MOST_ERRORS = 100
_INSTEAD = (
    "send the file in the form field `image` (multipart/form-data), or upload it to /v1/images "
    "and name its id here"
)
_BY_STATUS = {
    400: "malformed-multipart",
    404: "not-found",
    405: "method-not-allowed",
    413: "content-too-large",
    415: "unsupported-media-type",
}


def problem_response(problem: Problem) -> Response:
    """Answer with a problem."""
    return JSONResponse(
        problem.document(),
        status_code=problem.status,
        headers={"Cache-Control": "no-store", **problem.headers},
        media_type=MEDIA_TYPE,
    )


def invalid_request(
    error: ValidationError | RequestValidationError, *, document: object = None
) -> Problem:
    """Turn pydantic's findings into JSON pointers into ``document``, the body as it was sent."""
    if isinstance(error, ValidationError):
        # There is no way to have the first hundred only, but each can be made cheaply.
        findings = error.errors(include_url=False, include_context=False, include_input=False)
        errors = [_described(found, document) for found in findings[:MOST_ERRORS]]
    else:
        errors = [_described(found, document) for found in error.errors()[:MOST_ERRORS]]
    return Problem("invalid-request", "Some fields of the request are not valid.", errors=errors)


def invalid_field(pointer: str, detail: str) -> Problem:
    """Return the problem of one field."""
    errors = [{"pointer": pointer, "detail": detail}]
    return Problem("invalid-request", "Some fields of the request are not valid.", errors=errors)


def _described(found: Any, document: object) -> dict[str, str]:
    location: Sequence[Any] = found["loc"]
    value = None
    if document is None:
        kept = [part for part in location if part not in ("body", "query", "path", "header")]
    else:
        kept, value = _path(location, document, is_missing=found["type"] == "missing")
    escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in kept)
    pointer = "".join(f"/{part}" for part in escaped)
    if found["type"] == "extra_forbidden":
        return {"pointer": pointer, "detail": "this field is not known"}
    message = str(found["msg"])
    is_image = "images" in kept or "^img_" in message
    hint = _instead_of_an_image(value) if is_image and isinstance(value, str) else None
    return {"pointer": pointer, "detail": hint or message.removeprefix("Value error, ")}


def _path(
    location: Sequence[Any], document: object, *, is_missing: bool
) -> tuple[list[Any], object]:
    """Keep what leads through the document, and return what is there.

    pydantic also names the branches of unions on the way.
    """
    kept: list[Any] = []
    here: Any = document
    for place, part in enumerate(location):
        is_inside = (isinstance(here, Mapping) and part in here) or (
            isinstance(here, list | tuple) and isinstance(part, int) and part < len(here)
        )
        if is_inside:
            here = here[part]
        if is_inside or (is_missing and place == len(location) - 1):
            kept.append(part)
    return kept, here


def _instead_of_an_image(value: str) -> str | None:
    """Say what to do instead of sending a picture's bytes or its address in JSON."""
    start = value[:200].strip().lower()
    if start.startswith("data:") or (len(value) > 100 and not start.startswith("img_")):
        return f"a picture's bytes are not taken in JSON: {_INSTEAD}"
    if "://" in start:
        return f"addresses are not fetched: download the picture, then {_INSTEAD}"
    return None


def rejected_image(error: ImageRejectedError, *, pointer: str | None = None) -> Problem:
    """Turn the refusal of an image into its problem."""
    if pointer is None:
        return Problem(error.slug, error.detail)
    errors = [{"pointer": pointer, "detail": error.detail}]
    return Problem(error.slug, error.detail, errors=errors)


def translate(error: Exception) -> Problem:
    """Return the problem that an exception of any layer stands for."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError | ValidationError):
        return invalid_request(error)
    if isinstance(error, ImageRejectedError):
        return rejected_image(error)
    if isinstance(error, ObjectMissingError):
        return Problem("not-found", "The bytes of this resource are gone.")
    if isinstance(error, ObjectStoreFullError):
        return Problem("storage-full", "The object store has no space left.")
    if isinstance(error, ObjectStoreUnavailableError):
        problem = Problem("object-store-unavailable", "The object store does not answer.")
        return problem.with_headers(Retry_After="5")
    if is_full(error):
        return Problem("storage-full", "The service has no disk space left.")
    if isinstance(error, OUTAGES):
        logger.warning("database: %.300s", first_line(error))
        problem = Problem("database-unavailable", "The database does not answer.")
        return problem.with_headers(Retry_After="5")
    if isinstance(error, ProgrammingError) and _is_unmigrated(error):
        return Problem("not-ready", "The database's schema is not current: `bauta db upgrade`.")
    if isinstance(error, HTTPException):
        return _from_http(error)
    if is_out_of_memory(error):
        logger.error("out of memory: %.300r", error)
        problem = Problem("no-memory", "Nothing was changed: try again, or send less at once.")
        return problem.with_headers(Retry_After="5")
    incident = secrets.token_hex(6)
    logger.error("unexpected error (incident %s)", incident, exc_info=error)
    return Problem("internal-error", "See this incident id in the log.", incident=incident)


def _is_unmigrated(error: ProgrammingError) -> bool:
    return getattr(error.orig, "sqlstate", None) in ("42P01", "42703")  # no such table, column


def _from_http(error: HTTPException) -> Problem:
    slug = _BY_STATUS.get(error.status_code, "internal-error")
    problem = Problem(slug, str(error.detail))
    problem.headers.update(dict(error.headers or {}))
    return problem


async def _handle(request: Request, error: Exception) -> Response:
    del request
    return problem_response(translate(error))


def install(app: FastAPI) -> None:
    """Answer every error of this app with a problem."""
    for kind in (
        Problem,
        RequestValidationError,
        ValidationError,
        ImageRejectedError,
        ObjectMissingError,
        ObjectStoreFullError,
        ObjectStoreUnavailableError,
        DBAPIError,
        PoolTimeoutError,
        HTTPException,
        Exception,
    ):
        app.add_exception_handler(kind, _handle)
