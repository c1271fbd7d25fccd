"""Rings again, reaps, expires, and sweeps what has to be deleted."""

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType

from shared.db import Repository, create_database_engine
from shared.doorbell import Doorbell
from shared.objects import ObjectStore
from shared.settings import Settings

logger = logging.getLogger(__name__)

TOMBSTONE_SECONDS = 7 * 24 * 3600.0
SLOW_ROUNDS = 10


class Keeper:
    """The duties. Each may fail without keeping the others from theirs; several keepers may run."""

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        objects: ObjectStore,
        doorbell: Doorbell,
    ) -> None:
        self._settings = settings
        self._keeping = repository.keeping
        self._objects = objects
        self._doorbell = doorbell
        self._rounds = 0

    def round(self) -> None:
        """Do every duty that is due."""
        self._try("reap", self.reap)
        self._try("ring", self.ring)
        if self._rounds % SLOW_ROUNDS == 0:
            self._try("expire", self.expire)
        self._try("sweep", self.sweep)
        self._rounds += 1

    def ring(self) -> None:
        """Ring for jobs that stay queued: their first ring was lost, or nobody was at home."""
        due = self._keeping.due_to_ring(ring_again_seconds=self._settings.ring_again_seconds)
        for job_id, queue in due:
            self._doorbell.ring(job_id, queue)

    def reap(self) -> None:
        """Return jobs of dead workers to the queue, or end those that killed too many."""
        reaped = self._keeping.reap(
            max_losses=self._settings.max_losses,
            retention_seconds=self._settings.retention_seconds,
            ring_again_seconds=self._settings.ring_again_seconds,
        )
        for job in reaped:
            logger.warning("%s lost its worker (%d times): %s", job.job_id, job.losses, job.state)
            if job.state == "queued":
                self._doorbell.ring(job.job_id, job.queue)

    def expire(self) -> None:
        """Delete what is past its time."""
        jobs = self._keeping.expire_jobs()
        images = self._keeping.expire_images()
        self._keeping.expire_idempotency_keys()
        self._keeping.forget_tombstones(older_than_seconds=TOMBSTONE_SECONDS)
        if jobs or images:
            logger.info("expired %d jobs and %d images", jobs, images)

    def sweep(self) -> None:
        """Empty the prefixes of deleted jobs and images, and of losing attempts."""
        for sweep in self._keeping.due_sweeps():
            self._objects.delete_prefix(sweep.prefix)
            # A worker that was paused may upload late; after the longest deadline none is left.
            self._keeping.swept(sweep, again_after_seconds=self._settings.max_deadline_seconds)

    def _try(self, duty: str, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:  # a duty that fails is tried again in the next round
            logger.warning(
                "%s: %s", duty, str(error).splitlines()[0] if str(error) else repr(error)
            )


def run(settings: Settings) -> int:
    """Run a keeper in this process until it is told to stop."""
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    repository = Repository(create_database_engine(settings.database, pool_size=1))
    doorbell = Doorbell(settings)
    keeper = Keeper(settings, repository, ObjectStore.from_settings(settings), doorbell)
    logger.info("keeper ready")
    while not stop.is_set():
        keeper.round()
        stop.wait(settings.keeper_seconds)
    doorbell.close()
    return 0
