"""What a job saves of its work, so that another worker can go on from there."""

import logging
import time
from functools import partial

from services.worker.runtime.attempt import Attempt
from shared.db import OUTAGES, first_line
from shared.db.queries import CHECKPOINTS, job_prefix
from shared.objects import ObjectMissingError

logger = logging.getLogger(__name__)


class Checkpoints:
    """The newest checkpoint of a job: this attempt saves it, a later one loads it."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._claims = attempt.services.repository.claims
        self._objects = attempt.services.objects

    def save(self, files: dict[str, bytes]) -> None:
        """Make ``files`` the newest checkpoint, whole or not at all.

        While the database does not answer nothing is saved, and the earlier one stays.
        """
        prefix = (
            job_prefix(self._attempt.tenant_id, self._attempt.job_id, self._attempt.number)
            + f"{CHECKPOINTS}/"
        )
        self._attempt.has_stored = True
        stamp = f"{time.time_ns():x}"
        keys = {name: f"{prefix}{stamp}/{name}" for name in files}
        for name, data in files.items():
            self._attempt.patiently(partial(self._objects.put, keys[name], data))
        try:
            earlier = self._claims.checkpoint_files(self._attempt.job_id)
            recorded = self._claims.checkpoint(self._attempt.job_id, self._attempt.number, keys)
        except OUTAGES as error:
            logger.warning(
                "%s: no checkpoint was saved: %s", self._attempt.job_id, first_line(error)
            )
            return
        self._attempt.require_lease(recorded)
        for key in earlier.values():
            self._attempt.patiently(partial(self._objects.delete, key))

    def load(self) -> dict[str, bytes] | None:
        """Return the newest checkpoint of an earlier attempt, if there is a whole one."""
        files = self._claims.checkpoint_files(self._attempt.job_id)
        if not files:
            return None
        get = self._objects.get
        try:
            return {name: self._attempt.patiently(partial(get, key)) for name, key in files.items()}
        except ObjectMissingError:
            logger.warning("%s: its checkpoint is gone; starting over", self._attempt.job_id)
            return None
