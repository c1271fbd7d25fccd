"""The broker of many machines: a Redis list a queue, whose elements are job ids."""

import logging
import time
from collections.abc import Iterable, Sequence
from typing import cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from shared.doorbell.broker import CONNECT_SECONDS, KEPT_UNREADABLE, Ring, is_readable

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 3.0
BLOCK_SECONDS = 1.0  # shorter than that: a silent server must not pass for an empty queue
UNREADABLE, UNREADABLE_COUNT = "bauta.unreadable", "bauta.unreadable.count"
UNREADABLE_SECONDS = 24 * 3600
KEPT_BYTES = 1000

_PUT = """
if not redis.call('LPOS', KEYS[1], ARGV[1]) then redis.call('LPUSH', KEYS[1], ARGV[1]) end
"""


class RedisBroker:
    """A broker in a Redis server (6.0.6 or newer). Safe to use from many threads."""

    def __init__(self, url: str) -> None:
        # A pooled connection may have died with a restart of the server: one new one is tried.
        # All that is sent may be sent twice.
        self._client = Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        )
        self._put = self._client.register_script(_PUT)

    def put(self, queue: str, job_id: str) -> None:
        """Put an id into a queue, unless it is there already."""
        try:
            self._put(keys=[queue], args=[job_id])
        except ResponseError as error:
            self._clear(error, queue)
            self._put(keys=[queue], args=[job_id])

    def take(self, queues: Sequence[str], *, seconds: float) -> Ring | None:
        """Take a message from the first queue that has any; ``None`` when none came in time."""
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            patience = min(max(left, 0.01), BLOCK_SECONDS)  # zero would be for ever
            try:
                reply = cast(
                    tuple[bytes, bytes] | None,
                    self._client.brpop(list(queues), timeout=patience),
                )
            except ResponseError as error:
                self._clear(error, *queues)
                continue
            if reply is None:
                if left <= BLOCK_SECONDS:
                    return None
                continue
            key, element = reply
            message = element.decode("ascii", "replace")
            if is_readable(message):
                return Ring(message, key.decode())
            self._set_aside(key.decode(), element)

    def drop(self, queue: str, job_ids: Iterable[str]) -> None:
        """Remove these ids from a queue, as far as they are in it."""
        with self._client.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.lrem(queue, 0, job_id)
            pipeline.execute()

    def depth(self, queue: str) -> int:
        """Return how many messages wait in a queue."""
        return int(self._client.llen(queue))

    def unreadable(self) -> int:
        """Return how many messages were set aside since the server started."""
        return int(self._client.get(UNREADABLE_COUNT) or 0)

    def check(self) -> None:
        """Raise when the server does not answer."""
        self._client.ping()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _set_aside(self, queue: str, element: bytes) -> None:
        logger.warning("an unreadable message is set aside from %s: %r", queue, element[:100])
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.incr(UNREADABLE_COUNT)
            pipeline.lpush(UNREADABLE, element[:KEPT_BYTES])
            pipeline.ltrim(UNREADABLE, 0, KEPT_UNREADABLE - 1)
            pipeline.expire(UNREADABLE, UNREADABLE_SECONDS)
            try:
                pipeline.execute()
            except RedisError as error:  # a full server, for instance
                logger.warning("it could not be kept: %s", error)

    def _clear(self, error: ResponseError, *queues: str) -> None:
        """Remove what is no list from the place of a queue; raises errors of other kinds."""
        if "WRONGTYPE" not in str(error):
            raise error
        for queue in queues:
            kind = cast(bytes, self._client.type(queue))
            if kind not in (b"list", b"none"):
                self._client.delete(queue)
                self._set_aside(queue, b"a whole " + kind)
