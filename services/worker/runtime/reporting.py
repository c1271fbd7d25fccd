"""What a job reports while it runs: progress and events."""

import logging
import time
from typing import Any

from services.worker.runtime.attempt import Attempt
from shared.db import OUTAGES, first_line

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.25
MUTE_SECONDS = 5.0


class Reporting:
    """Progress and events of one attempt. A database that does not answer costs no job."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt, self._claim, self._job_id = attempt, attempt.claim, attempt.job_id
        self._claims = attempt.services.repository.claims
        self._quiet_until = 0.0
        self.last_progress: dict[str, Any] | None = None  # to be written with the job's end
        self.has_reported = False  # whether there are events of progress that the last one follows

    def progress(self, done: int, total: int, message: str = "", **data: Any) -> None:
        """Report progress; written at most four times a second, and the last with the job's end."""
        self._claim.check()
        document = {"done": done, "total": total, "message": message, **data}
        if done >= total:
            self.last_progress = document
            return
        now = time.monotonic()
        if now < self._quiet_until:
            return
        self._quiet_until = now + PROGRESS_SECONDS
        self.last_progress, self.has_reported = None, True
        try:
            state = self._claims.progress(self._job_id, self._attempt.number, document)
        except OUTAGES as error:
            # Not worth a job; and a dead database, asked each time, would slow the job down.
            self._quiet_until = now + MUTE_SECONDS
            logger.warning("progress of %s was not recorded: %s", self._job_id, first_line(error))
            return
        if state is None:
            self._claim.lost.set()
        elif state == "cancelling":
            self._claim.cancel.set()
        self._claim.check()

    def event(self, kind: str, data: dict[str, Any]) -> None:
        """Record an event of the job's own making, for those who follow its events."""
        self._claim.check()
        try:
            recorded = self._claims.event(self._job_id, self._attempt.number, kind, data)
        except OUTAGES as error:
            logger.warning("an event of %s was not recorded: %s", self._job_id, first_line(error))
            return
        if not recorded:
            self._claim.lost.set()
        self._claim.check()
