"""What the doorbell needs of a broker, and what counts as a message."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

CONNECT_SECONDS = 2.0
KEPT_UNREADABLE = 100

_MESSAGE = re.compile(r"[a-z]{1,16}_[0-9a-f]{24}")


class Ring(NamedTuple):
    """A message that was taken. Without a job's id: "look at whatever is queued"."""

    job_id: str
    queue: str


def is_readable(message: str) -> bool:
    """Whether a message is an id such as ``job_0123456789abcdef01234567``, which all are."""
    return _MESSAGE.fullmatch(message) is not None


class Broker(Protocol):
    """Queues of job ids, each id at most once in its queue.

    Every method may raise what the broker's client raises. What lies in a queue and is no id is set
    aside, at most ``KEPT_UNREADABLE`` of it, and counted; it costs no reader more than that.
    """

    def put(self, queue: str, job_id: str) -> None:
        """Put an id into a queue, unless it is there already."""

    def take(self, queues: Sequence[str], *, seconds: float) -> Ring | None:
        """Take the message that has waited longest in the first queue that has any.

        Waits ``seconds`` for one; ``None`` when there was none.
        """

    def drop(self, queue: str, job_ids: Iterable[str]) -> None:
        """Remove these ids from a queue, as far as they are in it."""

    def depth(self, queue: str) -> int:
        """Return how many messages wait in a queue."""

    def unreadable(self) -> int:
        """Return how many messages were set aside since the broker started to count."""

    def check(self) -> None:
        """Raise when the broker does not answer."""

    def close(self) -> None:
        """Give back connections."""
