"""Finishes a job: its outcome becomes a result, a problem, or its return to the queue."""

import json
import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from pydantic import ValidationError

from services.worker.runtime.claim import Claim
from services.worker.runtime.context import JobContext, Services
from services.worker.runtime.heartbeat import deadline_problem
from services.worker.runtime.memory import out_of_memory
from services.worker.stopping import Stopped
from shared.db import OUTAGES, first_line
from shared.db.derived import RESULT_ARTIFACT
from shared.doorbell import Doorbell
from shared.images import ImageRejectedError
from shared.objects import ObjectStoreFullError, ObjectStoreUnavailableError
from shared.problems import Problem
from shared.results import JobResult

logger = logging.getLogger(__name__)

MAX_ROW_BYTES = 64 * 1024
OUR_CODE = Path(__file__).resolve().parents[3]

Outcome = JobResult | BaseException
T = TypeVar("T")


def finish(
    services: Services,
    doorbell: Doorbell,
    claim: Claim,
    context: JobContext,
    outcome: Outcome,
) -> None:
    """Finish the job as its outcome says, in one fenced transaction, tried while the lease lasts.

    A job that was stopped in a way that does not end it returns to the queue.
    """
    if isinstance(outcome, Stopped) and not outcome.ends_job:
        _hand_back(services, doorbell, claim, outcome)
        return
    try:
        row = _row_of(claim, context, outcome)
        row |= {
            "progress": context.reporting.last_progress,
            "followed": context.reporting.has_reported,
            "stored": context.has_stored,
        }
        finished = _persist(claim, lambda: _write(services, claim, **row))
    except Stopped as stopped:  # while a large result was being stored
        _hand_back(services, doorbell, claim, stopped)
        return
    except Exception as error:  # what the database refuses to hold, for instance
        problem = _problem_of(claim, error)
        finished = _persist(claim, lambda: _write(services, claim, state="failed", problem=problem))
    if not finished:
        logger.warning("%s had been given to another worker or deleted", claim.job.id)


def _write(services: Services, claim: Claim, **row: Any) -> bool:
    return services.repository.claims.finish(
        claim.job.id,
        claim.job.fence,
        retention_seconds=services.settings.retention_seconds,
        **row,
    )


def _hand_back(services: Services, doorbell: Doorbell, claim: Claim, why: Stopped) -> None:
    """Return the job to the queue, which does nothing if somebody else has it by now."""
    job = claim.job
    if why.reason == "lease lost":
        logger.warning("the lease of %s ran out here", job.id)
    try:
        hand_back = services.repository.claims.hand_back
        state = hand_back(job.id, job.fence, ring_again_seconds=0)
    except OUTAGES as error:
        logger.warning("the keeper has to reap %s: %s", job.id, first_line(error))
        return
    if state == "queued":
        doorbell.ring(job.id, job.queue)


def _row_of(claim: Claim, context: JobContext, outcome: Outcome) -> dict[str, Any]:
    """Return what the job's row holds of its end."""
    if isinstance(outcome, JobResult):
        try:
            document = _document(context, outcome)
        except Stopped as stopped:
            if not stopped.ends_job:
                raise
            return _row_of(claim, context, stopped)
        artifacts = tuple(context.artifacts.stored)
        return {"state": "succeeded", "result": document, "artifacts": artifacts}
    if not isinstance(outcome, Stopped):
        return {"state": "failed", "problem": _problem_of(claim, outcome), "artifacts": ()}
    left = context.artifacts.left
    if outcome.reason == "canceled":
        return {"state": "cancelled", "artifacts": left}
    return {"state": "failed", "problem": deadline_problem(claim), "artifacts": left}


def _document(context: JobContext, result: JobResult) -> dict[str, Any]:
    """Return the result as a row holds it.

    One over ``MAX_ROW_BYTES`` becomes the artifact ``result.json``, and the row keeps what all
    results share, but for the parameters, with the artifact's name as ``result_artifact``.
    """
    document = result.model_dump(mode="json")
    # Neither JSON nor Postgres knows NaN: better to fail here than at whoever reads it.
    data = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    if len(data) <= MAX_ROW_BYTES:
        return document
    context.artifacts.put(RESULT_ARTIFACT, data, "application/json")
    shared = set(JobResult.model_fields) - {"parameters"}
    return {
        **{name: value for name, value in document.items() if name in shared},
        "result_artifact": RESULT_ARTIFACT,
    }


def _problem_of(claim: Claim, error: BaseException) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, ImageRejectedError):
        return Problem("invalid-input", error.detail)
    if isinstance(error, ObjectStoreFullError):
        return Problem("storage-full", "The object store has no space for the result.")
    if isinstance(error, ObjectStoreUnavailableError):
        return Problem("object-store-unavailable", "The object store does not answer.")
    if (problem := out_of_memory(error)) is not None:
        logger.warning("%s: %r", claim.job.id, error)
        return problem
    if isinstance(error, ValueError) and _is_ours(error):
        return Problem("invalid-input", str(error))
    incident = secrets.token_hex(6)
    logger.error("job %s failed (incident %s)", claim.job.id, incident, exc_info=error)
    return Problem(
        "job-failed",
        "The job ended with an unexpected error; the worker's log has it under the incident.",
        incident=incident,
    )


def _persist(claim: Claim, write: Callable[[], T]) -> T | None:
    """Write to the database, trying again until the lease is surely lost."""
    wait = 0.05
    while True:
        try:
            return write()
        except OUTAGES as error:
            logger.warning("%s cannot be finished yet: %s", claim.job.id, first_line(error))
            if claim.lost.wait(wait) or claim.is_lost:
                return None
            wait = min(2 * wait, 2.0)


def _is_ours(error: ValueError) -> bool:
    """Whether our own code raised it, about its input, in a sentence meant for its reader."""
    trace: TracebackType | None = error.__traceback__
    if trace is None or isinstance(error, ValidationError | UnicodeError):
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    file = Path(trace.tb_frame.f_code.co_filename)
    return file.is_relative_to(OUR_CODE / "services") or file.is_relative_to(OUR_CODE / "shared")
