"""Rings again, reaps, expires, and sweeps what has to be deleted."""

import logging
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

from shared.db import Repository, create_database_engine, first_line
from shared.doorbell import Doorbell
from shared.objects import ObjectStore, ObjectStoreUnavailableError
from shared.settings import QUEUES, Settings

logger = logging.getLogger(__name__)

TOMBSTONE_SECONDS = 7 * 24 * 3600.0
SLOW_ROUNDS = 10
LOG_ROUNDS = 60
LONGEST_PAUSE_SECONDS = 5.0


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
        self._cleanings = 0
        self._has_deleted = True  # an earlier process may have

    def round(self) -> bool:
        """Do the duties that waiting jobs need; returns whether none failed."""
        reaped = self._try("reap", self.reap)
        return self._try("ring", self.ring) and reaped

    def clean(self) -> bool:
        """Do the duties that may take long; returns whether none failed."""
        expired = True
        if self._cleanings % SLOW_ROUNDS == 0:
            expired = self._try("expire", self.expire)
            self._try("reserve", self.hold_reserve)
        self._cleanings += 1
        swept = self._try("sweep", self.sweep)
        return self._try("empty the log", self.empty_log) and swept and expired

    def ring(self) -> None:
        """Ring for jobs that stay queued, unless as many rings wait to be heard.

        Their first rings were lost with a broker, or taken by workers that died. Where nobody
        listens, rings that wait are enough: more would only have to be cleared away.
        """
        for queue in QUEUES:
            overdue = self._keeping.overdue(queue)
            if overdue and self._doorbell.depth(queue) < len(overdue):
                for job_id in overdue:
                    if not self._doorbell.ring(job_id, queue):
                        break

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
        datasets = self._keeping.expire_datasets()
        models = self._keeping.expire_models()
        keys = self._keeping.expire_idempotency_keys()
        self._keeping.forget_tombstones(older_than_seconds=TOMBSTONE_SECONDS)
        self._has_deleted |= bool(jobs or images or datasets or models or keys)
        if jobs or images or datasets or models:
            logger.info(
                "expired %d jobs, %d images, %d data sets, %d models",
                *(jobs, images, datasets, models),
            )

    def sweep(self) -> None:
        """Empty the prefixes of deleted jobs and images, and of losing attempts."""
        due = self._keeping.due_sweeps()
        self._has_deleted |= bool(due)  # every deletion leaves one
        for sweep in due:
            try:
                if sweep.prefix.endswith("/"):
                    self._objects.delete_prefix(sweep.prefix)
                else:  # one object, others beside it stay
                    self._objects.delete(sweep.prefix)
            except ObjectStoreUnavailableError:
                raise  # the others would fare no better now
            except Exception:  # one that cannot be deleted must not keep the others
                logger.exception("the objects under %s cannot be deleted", sweep.prefix)
                continue
            # A worker that was paused may upload late; after the longest deadline none is left.
            self._keeping.swept(sweep, again_after_seconds=self._settings.max_deadline_seconds)

    def empty_log(self) -> None:
        """Take what was deleted off the disk, where the database is SQLite."""
        if self._has_deleted or self._cleanings % LOG_ROUNDS == 0:
            self._has_deleted = not self._keeping.empty_log()

    def hold_reserve(self) -> None:
        """Hold disk space back that deleting may need."""
        self._keeping.reserve.hold(free_bytes=self._settings.min_free_disk_bytes)

    def _try(self, duty: str, do: Callable[[], None]) -> bool:
        try:
            do()
        except Exception as error:  # a duty that fails is tried again in the next round
            logger.warning("%s: %s", duty, first_line(error) or repr(error))
            return False
        return True


def repeat(
    do: Callable[[], bool],
    *,
    every_seconds: float,
    stop: threading.Event,
    health_file: Path | None = None,
) -> None:
    """Call ``do`` until told to stop; while it fails, less and less often."""
    pause = every_seconds
    while not stop.is_set():
        well = do()
        # Once it was ready, a touch says that the rounds go on, not that all servers answer.
        if health_file is not None and (well or health_file.exists()):
            health_file.touch()
        pause = every_seconds if well else min(2 * pause, max(LONGEST_PAUSE_SECONDS, every_seconds))
        stop.wait(pause)


def run(settings: Settings, *, health_file: Path | None = None) -> int:
    """Run a keeper in this process until it is told to stop.

    ``health_file`` is touched after every round, from the first on that went well.
    """
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    repository = Repository(create_database_engine(settings.database, pool_size=2))
    doorbell = Doorbell(settings)
    keeper = Keeper(settings, repository, ObjectStore.from_settings(settings), doorbell)
    keep = partial(repeat, every_seconds=settings.keeper_seconds, stop=stop)
    # A daemon thread: every duty may be interrupted anywhere, so none is waited for at the end.
    threading.Thread(target=keep, args=(keeper.clean,), name="clean", daemon=True).start()
    logger.info("keeper ready")
    keep(keeper.round, health_file=health_file)
    doorbell.close()
    return 0
