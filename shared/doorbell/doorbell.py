"""Rings for jobs, and waits for rings."""

import logging
import threading
import time
from collections.abc import Iterable, Sequence

from shared.doorbell.broker import Broker, Ring
from shared.doorbell.folder import FolderBroker
from shared.doorbell.redis import RedisBroker
from shared.settings import Settings

logger = logging.getLogger(__name__)

SILENT_SECONDS = 2.0
LOOK_SECONDS = 2.0


def open_broker(settings: Settings) -> Broker:
    """Open the broker that the settings name."""
    if settings.broker.startswith("filesystem:"):
        return FolderBroker(settings.data_dir.resolve() / "broker")
    return RedisBroker(settings.broker)


class Doorbell:
    """Both ends of the doorbell. ``wait`` is for one thread, all else for many."""

    def __init__(self, settings: Settings) -> None:
        self._broker = open_broker(settings)
        self._silent_until = 0.0
        self._look_at = float("inf")  # while the broker does not answer
        self._closed = threading.Event()

    def ring(self, job_id: str, queue: str) -> bool:
        """Send "look"; false when the broker does not take it (the keeper will ring later).

        While a ring is in the queue, another for the same job changes nothing. After a failure it
        does not try again for a moment, so that a dead broker delays no request.
        """
        if time.monotonic() < self._silent_until:
            return False
        try:
            self._broker.put(queue, job_id)
        except Exception as error:  # whatever a broker's client raises, no job is lost
            self._be_silent("the doorbell did not ring for %s: %r", job_id, error)
            return False
        return True

    def take_back(self, job_ids: Iterable[str], queue: str) -> None:
        """Remove the rings of jobs that need none any more. One that stays costs a look."""
        if time.monotonic() < self._silent_until:
            return
        try:
            self._broker.drop(queue, job_ids)
        except Exception as error:
            self._be_silent("rings of %s stay in the queue: %r", queue, error)

    def wait(self, queues: Sequence[str], *, seconds: float) -> Ring | None:
        """Wait for a ring; ``None`` when there was none.

        While the broker does not answer, and once when it answers again, the ring says only that
        it is time to look: jobs need no broker to be found.
        """
        try:
            ring = self._broker.take(queues, seconds=seconds)
        except Exception as error:
            now = time.monotonic()
            if self._look_at == float("inf"):
                logger.warning("the broker does not answer, looking without it: %r", error)
                self._look_at = now
            if now >= self._look_at:
                self._look_at = now + LOOK_SECONDS
                return Ring("", queues[0])
            self._closed.wait(min(seconds, self._look_at - now))
            return None
        if self._look_at < float("inf"):
            logger.warning("the broker answers again")
            self._look_at = float("inf")
            return ring or Ring("", queues[0])
        return ring

    def depth(self, queue: str) -> int:
        """Return how many rings wait in a queue; raises when the broker does not answer."""
        return self._broker.depth(queue)

    def unreadable(self) -> int:
        """Return how many unreadable messages were set aside; raises as ``depth`` does."""
        return self._broker.unreadable()

    def check(self) -> None:
        """Raise when the broker does not answer."""
        self._broker.check()

    def close(self) -> None:
        """Give back the connections."""
        self._closed.set()
        self._broker.close()

    def _be_silent(self, message: str, subject: str, error: Exception) -> None:
        logger.warning(message, subject, error)
        self._silent_until = time.monotonic() + SILENT_SECONDS
