"""How a job ends: its outcome becomes a result, a problem, or its return to the queue."""

import json
import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from pydantic import ValidationError

from services.worker.runtime.claim import Cancelled, DeadlineExceeded, HandBack, Held, LeaseLost
from services.worker.runtime.context import JobContext, Services
from services.worker.runtime.heartbeat import deadline_problem
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


class Ending:
    """Ends jobs, each in one fenced transaction that is tried again while the lease lasts."""

    def __init__(self, services: Services, doorbell: Doorbell) -> None:
        self._claims = services.repository.claims
        self._retention_seconds = services.settings.retention_seconds
        self._doorbell = doorbell

    def settle(self, held: Held, context: JobContext, outcome: Outcome) -> None:
        """End the job as its outcome says."""
        if isinstance(outcome, LeaseLost | HandBack):
            self._hand_back(held, outcome)
            return
        try:
            ending = self._ending(held, context, outcome)
            ending |= {
                "progress": context.last_progress,
                "followed": context.has_reported,
                "stored": context.has_stored,
            }
            ended = self._persist(held, lambda: self._finish(held, **ending))
        except (LeaseLost, HandBack) as stopped:  # while a large result was being stored
            self._hand_back(held, stopped)
            return
        except Exception as error:  # what the database refuses to hold, for instance
            problem = self._problem(held, error)
            ended = self._persist(held, lambda: self._finish(held, state="failed", problem=problem))
        if not ended:
            logger.warning("%s had been given to another worker or deleted", held.job.id)

    def _finish(self, held: Held, **ending: Any) -> bool:
        return self._claims.finish(
            held.job.id, held.job.fence, retention_seconds=self._retention_seconds, **ending
        )

    def _hand_back(self, held: Held, why: BaseException) -> None:
        """Return the job to the queue, which does nothing if somebody else has it by now."""
        job = held.job
        if isinstance(why, LeaseLost):
            logger.warning("the lease of %s ran out here", job.id)
        try:
            state = self._claims.hand_back(job.id, job.fence, ring_again_seconds=0)
        except OUTAGES as error:
            logger.warning("the keeper has to reap %s: %s", job.id, first_line(error))
            return
        if state == "queued":
            self._doorbell.ring(job.id, job.queue)

    def _ending(self, held: Held, context: JobContext, outcome: Outcome) -> dict[str, Any]:
        if isinstance(outcome, JobResult):
            try:
                document = self._document(context, outcome)
            except (Cancelled, DeadlineExceeded) as stopped:
                return self._ending(held, context, stopped)
            artifacts = tuple(context.artifacts)
            return {"state": "succeeded", "result": document, "artifacts": artifacts}
        left = context.artifacts_left if isinstance(outcome, Cancelled | DeadlineExceeded) else ()
        if isinstance(outcome, Cancelled):
            return {"state": "cancelled", "artifacts": left}
        return {"state": "failed", "problem": self._problem(held, outcome), "artifacts": left}

    def _document(self, context: JobContext, result: JobResult) -> dict[str, Any]:
        """Return the result as a row holds it.

        One over ``MAX_ROW_BYTES`` becomes the artifact ``result.json``, and the row keeps what all
        results share, but for the parameters, with the artifact's name as ``result_artifact``.
        """
        document = result.model_dump(mode="json")
        # Neither JSON nor Postgres knows NaN: better to fail here than at whoever reads it.
        data = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        if len(data) <= MAX_ROW_BYTES:
            return document
        context.put_artifact(RESULT_ARTIFACT, data, "application/json")
        shared = set(JobResult.model_fields) - {"parameters"}
        return {
            **{name: value for name, value in document.items() if name in shared},
            "result_artifact": RESULT_ARTIFACT,
        }

    def _problem(self, held: Held, error: BaseException) -> Problem:
        if isinstance(error, Problem):
            return error
        if isinstance(error, DeadlineExceeded):
            return deadline_problem(held)
        if isinstance(error, ImageRejectedError):
            return Problem("invalid-input", error.detail)
        if isinstance(error, ObjectStoreFullError):
            return Problem("storage-full", "The object store has no space for the result.")
        if isinstance(error, ObjectStoreUnavailableError):
            return Problem("object-store-unavailable", "The object store does not answer.")
        if isinstance(error, ValueError) and _is_ours(error):
            return Problem("invalid-input", str(error))
        incident = secrets.token_hex(6)
        logger.error("job %s failed (incident %s)", held.job.id, incident, exc_info=error)
        return Problem(
            "job-failed",
            "The job ended with an unexpected error; the worker's log has it under the incident.",
            incident=incident,
        )

    def _persist(self, held: Held, write: Callable[[], T]) -> T | None:
        """Write to the database, trying again until the lease is surely lost."""
        wait = 0.05
        while True:
            try:
                return write()
            except OUTAGES as error:
                logger.warning("%s cannot be ended yet: %s", held.job.id, first_line(error))
                if held.lost.wait(wait) or held.is_lost:
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
