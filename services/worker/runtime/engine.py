"""The engine: claims jobs, runs them alone or as a batch, and ends each exactly once."""

import importlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from services.worker.runtime.context import JobContext, Services
from services.worker.runtime.heart import Heart, deadline_problem
from services.worker.runtime.held import (
    Cancelled,
    DeadlineExceeded,
    HandBack,
    Held,
    JobStopped,
    LeaseLost,
)
from shared.db.tables import Job
from shared.doorbell import Doorbell
from shared.images import ImageRejectedError
from shared.objects import ObjectStoreFullError, ObjectStoreUnavailableError
from shared.problems import Problem
from shared.results import JobResult
from shared.specs import JobSpec, parse_spec

logger = logging.getLogger(__name__)

MAX_ROW_BYTES = 64 * 1024
RESULT_ARTIFACT = "result.json"
Outcome = JobResult | BaseException
Item = tuple[JobContext, JobSpec]


def find_job_module(kind: str) -> ModuleType:
    """Return the module of a job kind; it has ``run`` and may have ``run_batch``."""
    return importlib.import_module(f"services.worker.jobs.{kind.replace('-', '_')}")


class Engine:
    """Runs jobs of some queues, one batch at a time."""

    def __init__(
        self,
        services: Services,
        heart: Heart,
        doorbell: Doorbell,
        *,
        owner: str,
        find_module: Callable[[str], ModuleType] = find_job_module,
    ) -> None:
        self._services = services
        self._repository = services.repository
        self._settings = services.settings
        self._heart = heart
        self._doorbell = doorbell
        self._owner = owner
        self._find_module = find_module
        self.jobs_done = 0
        self.stopping = False

    def look(self, job_id: str) -> None:
        """Answer the doorbell: run this job or the oldest, then whatever else is queued."""
        try:
            first = self._repository.claims.claim(job_id, **self._claiming) or self._oldest()
            while first is not None:
                self._run(first)
                if self.stopping or self.jobs_done >= self._settings.recycle_after_jobs:
                    return
                first = self._oldest()
        except SQLAlchemyError as error:
            logger.warning("the queue cannot be read; the keeper will ring again: %s", error)

    @property
    def _claiming(self) -> dict[str, Any]:
        return {
            "queues": self._settings.queues,
            "owner": self._owner,
            "lease_seconds": self._settings.lease_seconds,
        }

    def _oldest(self) -> Job | None:
        return self._repository.claims.claim_oldest(**self._claiming)

    def _run(self, first: Job) -> None:
        others = self._repository.claims.claim_batch(
            first, limit=self._settings.batch_jobs - 1, **self._claiming
        )
        claims = [Held.of(job) for job in (first, *others)]
        self._heart.hold(claims)
        began = time.monotonic()
        try:
            self._run_held(claims)
        finally:
            for held in claims:
                self._heart.release(held)
            self.jobs_done += len(claims)
        logger.info(
            "%s: %d job(s), first %s, %.3f s",
            first.kind,
            len(claims),
            first.id,
            time.monotonic() - began,
        )

    def _run_held(self, claims: Sequence[Held]) -> None:
        ready: list[tuple[Held, Item]] = []
        for held in claims:
            context = JobContext(held, self._services)
            try:
                ready.append((held, (context, parse_spec(held.job.spec or {}))))
            except (ValidationError, KeyError):
                problem = Problem("invalid-input", "This worker cannot read the job's spec.")
                self._settle(held, context, problem)
        if not ready:
            return
        module = self._find_module(ready[0][0].job.kind)
        outcomes = self._batched(module, ready) if len(ready) > 1 else None
        for index, (held, item) in enumerate(ready):
            outcome = outcomes[index] if outcomes else self._alone(module, held, item)
            if isinstance(outcome, HandBack | Cancelled | DeadlineExceeded | LeaseLost) and (
                not _stopped(held)
            ):
                # Another job of the batch had to stop: this one runs by itself.
                outcome = self._alone(module, held, item)
            self._settle(held, item[0], outcome)

    def _batched(
        self, module: ModuleType, ready: Sequence[tuple[Held, Item]]
    ) -> list[Outcome] | None:
        """Run as one batch; ``None`` when that failed as a whole, and each has to run alone."""
        if not hasattr(module, "run_batch"):
            return None
        items = [item for _, item in ready]
        try:
            outcomes: list[Outcome] = list(module.run_batch(items))
        except (JobStopped, Exception) as error:
            logger.warning("a batch of %d fell apart: %r", len(items), error)
            for context, _ in items:
                context.artifacts.clear()
            return None
        return outcomes

    def _alone(self, module: ModuleType, held: Held, item: Item) -> Outcome:
        context, spec = item
        context.artifacts.clear()
        try:
            held.check()
            result: JobResult = module.run(context, spec)
        except (JobStopped, Exception) as error:
            return error
        return result

    def _settle(self, held: Held, context: JobContext, outcome: Outcome) -> None:
        """End the job as its outcome says, in one fenced transaction."""
        job = held.job
        if isinstance(outcome, LeaseLost):
            logger.warning("%s was lost to another worker", job.id)
            return
        if isinstance(outcome, HandBack):
            state = self._persist(
                held,
                lambda: self._repository.claims.hand_back(job.id, job.fence, ring_again_seconds=0),
            )
            if state == "queued":
                self._doorbell.ring(job.id, job.queue)
            return
        ending: dict[str, Any]
        if isinstance(outcome, JobResult):
            try:
                ending = {"state": "succeeded", "result": self._document(context, outcome)}
            except (JobStopped, Exception) as error:
                self._settle(held, context, error)
                return
            ending["artifacts"] = tuple(context.artifacts)
        elif isinstance(outcome, Cancelled):
            ending = {"state": "cancelled"}
        else:
            ending = {"state": "failed", "problem": self._problem(held, outcome)}
        ended = self._persist(
            held,
            lambda: self._repository.claims.finish(
                job.id, job.fence, retention_seconds=self._settings.retention_seconds, **ending
            ),
        )
        if not ended:
            logger.warning("%s had been given to another worker or deleted", job.id)

    def _document(self, context: JobContext, result: JobResult) -> dict[str, Any]:
        """Return the result as a row holds it; a large one becomes an artifact."""
        document = result.model_dump(mode="json")
        data = json.dumps(document, separators=(",", ":")).encode()
        if len(data) <= MAX_ROW_BYTES:
            return document
        context.put_artifact(RESULT_ARTIFACT, data, "application/json")
        return {
            "kind": result.kind,
            "result_artifact": RESULT_ARTIFACT,
            "main_artifact": result.main_artifact,
            "warnings": list(result.warnings),
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
            return Problem("object-store-unavailable", "The result could not be stored.")
        incident = secrets.token_hex(6)
        logger.error("job %s failed (incident %s)", held.job.id, incident, exc_info=error)
        return Problem(
            "job-failed",
            "The job ended with an unexpected error; the worker's log has it under the incident.",
            incident=incident,
        )

    def _persist(self, held: Held, write: Callable[[], Any]) -> Any:
        """Write to the database, trying again until the lease is surely lost."""
        wait = 0.05
        while True:
            try:
                return write()
            except SQLAlchemyError as error:
                logger.warning("the end of %s is not recorded yet: %s", held.job.id, error)
                if held.lost.wait(wait):
                    return None
                wait = min(2 * wait, 2.0)


def _stopped(held: Held) -> bool:
    try:
        held.check()
    except JobStopped:
        return True
    return False
