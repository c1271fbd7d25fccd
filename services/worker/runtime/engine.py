"""The engine: claims jobs, runs them alone or as a batch, and sees that each ends."""

import importlib
import logging
import time
from collections.abc import Callable, Sequence
from types import ModuleType

from pydantic import ValidationError

from services.worker.runtime.claim import Claim
from services.worker.runtime.context import JobContext, Services
from services.worker.runtime.finish import Outcome, finish
from services.worker.runtime.heartbeat import Heartbeat
from services.worker.stopping import Stopped
from shared.db import OUTAGES, first_line
from shared.db.tables import Job
from shared.doorbell import Doorbell
from shared.problems import Problem
from shared.results import JobResult
from shared.specs import JobSpec, parse_spec

logger = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 3.0
RELIEF_SECONDS = 600.0  # that a successor may take to start

Item = tuple[JobContext, JobSpec]
Ready = Sequence[tuple[Claim, Item]]


def find_job_module(kind: str) -> ModuleType:
    """Return the module of a job kind; it has ``run`` and may have ``run_batch``."""
    name = f"services.worker.jobs.{kind.replace('-', '_')}"
    found = importlib.import_module(name)
    return importlib.import_module(f"{name}.job") if hasattr(found, "__path__") else found


class Engine:
    """Runs jobs of some queues, one batch at a time.

    A job module has ``run(context, spec) -> JobResult`` and may have
    ``run_batch([(context, spec), …]) -> [JobResult or exception, …]``.
    """

    def __init__(
        self,
        services: Services,
        heartbeat: Heartbeat,
        doorbell: Doorbell,
        *,
        owner: str,
        find_module: Callable[[str], ModuleType] = find_job_module,
        supervised: bool = False,
    ) -> None:
        self._services = services
        self._claims = services.repository.claims
        self._settings = services.settings
        self._heartbeat = heartbeat
        self._doorbell = doorbell
        self._owner = owner
        self._find_module = find_module
        self._supervised = supervised
        self.jobs_done = 0
        self.stopping = False
        self._end_at = float("inf")

    @property
    def is_done(self) -> bool:
        """Whether this worker takes no further job: told to stop, or due for recycling.

        A supervised one goes on until its successor is there, but not for ever.
        """
        return self.stopping or time.monotonic() >= self._end_at

    def look(self, job_id: str = "") -> None:
        """Answer the doorbell: run this job or the oldest, then whatever else is queued.

        While the database does not answer, it waits: the worker could do nothing else.
        """
        pause = 0.1
        while not self.is_done:
            try:
                claims = self._claim(job_id)
            except OUTAGES as error:
                logger.warning("the queue cannot be read: %s", first_line(error))
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                continue
            if not claims:
                return
            self._silence(claims, rung=job_id)
            self._run(claims)
            job_id, pause = "", 0.1

    def _claim(self, job_id: str) -> list[Claim]:
        """Claim a job and those that may run in one batch with it."""
        lease_seconds = self._settings.lease_seconds
        claimed = self._claims.claim_batch(
            job_id,
            queues=self._settings.queues,
            owner=self._owner,
            lease_seconds=lease_seconds,
            room=self._room_beside,
        )
        return [Claim.of(job, lease_seconds=lease_seconds) for job in claimed]

    def _silence(self, claims: Sequence[Claim], *, rung: str) -> None:
        """Take back the rings of claimed jobs but of ``rung``, whose ring was taken already."""
        for queue in {claim.job.queue for claim in claims}:
            jobs = [claim.job.id for claim in claims if claim.job.queue == queue]
            if others := [job_id for job_id in jobs if job_id != rung]:
                self._doorbell.take_back(others, queue)

    def _room_beside(self, first: Job) -> int:
        """Return how many more jobs as large as ``first`` belong into its batch.

        More photos at once than a pass through a network likes are no faster: their jobs would only
        wait for each other, while other workers could have shared them.
        """
        on_gpu = str(self._services.device).startswith("cuda")
        jobs, photos = (16, 64) if on_gpu else (4, 8)
        jobs = self._settings.batch_jobs or jobs
        own = len((first.spec or {}).get("images", ()))
        return min(jobs, photos // max(1, own)) - 1

    def _run(self, claims: Sequence[Claim]) -> None:
        self._heartbeat.hold(claims)
        began = time.monotonic()
        try:
            self._run_claimed(claims)
        finally:
            for claim in claims:
                self._heartbeat.release(claim)
            self.jobs_done += len(claims)
            self._recycle_when_due()
        first, seconds = claims[0].job, time.monotonic() - began
        logger.info("%s: %d job(s), first %s, %.3f s", first.kind, len(claims), first.id, seconds)

    def _recycle_when_due(self) -> None:
        if self.jobs_done < self._settings.recycle_after_jobs or self._end_at < float("inf"):
            return
        self._end_at = time.monotonic() + (RELIEF_SECONDS if self._supervised else 0.0)
        self._heartbeat.retire()

    def _run_claimed(self, claims: Sequence[Claim]) -> None:
        ready: list[tuple[Claim, Item]] = []
        for claim in claims:
            context = JobContext(claim, self._services)
            try:
                ready.append((claim, (context, parse_spec(claim.job.spec or {}))))
            except ValidationError:
                problem = Problem("invalid-input", "This worker cannot read the job's spec.")
                self._finish(claim, context, problem)
        if not ready:
            return
        outcomes = self._batched(ready) if len(ready) > 1 else None
        for index, (claim, item) in enumerate(ready):
            outcome = outcomes[index] if outcomes is not None else self._alone(claim, item)
            if isinstance(outcome, Stopped) and not _has_to_stop(claim):
                # Another job of the batch had to stop: this one runs by itself.
                outcome = self._alone(claim, item)
            self._finish(claim, item[0], outcome)

    def _finish(self, claim: Claim, context: JobContext, outcome: Outcome) -> None:
        finish(self._services, self._doorbell, claim, context, outcome)
        self._heartbeat.release(claim)  # an ended job's deadline must not count any more

    def _batched(self, ready: Ready) -> list[Outcome] | None:
        """Run as one batch; ``None`` when that failed as a whole, and each has to run alone."""
        items = [item for _, item in ready]
        try:
            module = self._find_module(ready[0][0].job.kind)
            if not hasattr(module, "run_batch"):
                return None
            outcomes: list[Outcome] = list(module.run_batch(items))
        except (Stopped, Exception) as error:
            logger.warning("a batch of %d fell apart: %r", len(items), error)
            return None
        if len(outcomes) != len(items):
            logger.error("a batch of %d came back with %d outcomes", len(items), len(outcomes))
            return None
        return outcomes

    def _alone(self, claim: Claim, item: Item) -> Outcome:
        context, spec = item
        context.artifacts.clear()
        try:
            claim.check()
            result: JobResult = self._find_module(claim.job.kind).run(context, spec)
        except (Stopped, Exception) as error:
            return error
        return result


def _has_to_stop(claim: Claim) -> bool:
    try:
        claim.check()
    except Stopped:
        return True
    return False
