"""The embedded broker: a folder a queue, in which every message is an empty file named by its id.

To create such a file is one step of the file system, and so is to remove it: no reader finds a
message half-written, two readers never take the same one, and a process that is killed between any
two steps leaves nothing to repair. The name is the message, so a job is in a queue at most once.

A named pipe a queue wakes readers. It carries no information: whoever misses a byte looks again
within ``RESCAN_SECONDS``.
"""

import errno
import logging
import os
import secrets
import select
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.doorbell.broker import KEPT_UNREADABLE, Ring, is_readable
from shared.settings import QUEUES

logger = logging.getLogger(__name__)

RESCAN_SECONDS = 0.5
RESCAN_WITHOUT_PIPE_SECONDS = 0.1  # where the file system has no named pipes


class FolderBroker:
    """A broker in a folder of this machine, for many processes. See the module."""

    def __init__(self, folder: Path) -> None:
        self._messages = folder / "messages"
        self._unreadable = folder / "unreadable"
        self._count = folder / "unreadable.count"  # a byte a message: appending one is atomic
        self._pipes = {queue: folder / f"{queue}.bell" for queue in QUEUES}
        self._queues = {queue: self._messages / queue for queue in QUEUES}
        self._known: dict[str, deque[str]] = {queue: deque() for queue in QUEUES}
        self._immovable: set[str] = set()
        self._prepare()

    def _prepare(self) -> None:
        for path in (*self._queues.values(), self._unreadable):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in self._pipes.values():
            with suppress(OSError):  # there already, or the file system has none
                os.mkfifo(path, 0o600)

    def put(self, queue: str, job_id: str) -> None:
        """Put an id into a queue, unless it is there already."""
        path = self._queues[queue] / job_id
        try:
            _create(path)
        except FileNotFoundError:
            self._prepare()
            _create(path)
        _wake(self._pipes[queue])

    def take(self, queues: Sequence[str], *, seconds: float) -> Ring | None:
        """Take a message from the first queue that has any; ``None`` when none came in time."""
        end = time.monotonic() + seconds
        with self._listening(queues) as pipes:
            while True:
                # Opened before looking: who puts a message after that finds somebody to wake.
                for queue in queues:
                    if (job_id := self._take_now(queue)) is not None:
                        return Ring(job_id, queue)
                left = end - time.monotonic()
                if left <= 0:
                    return None
                _listen(pipes, left)

    def drop(self, queue: str, job_ids: Iterable[str]) -> None:
        """Remove these ids from a queue, as far as they are in it."""
        for job_id in job_ids:
            (self._queues[queue] / job_id).unlink(missing_ok=True)

    def depth(self, queue: str) -> int:
        """Return how many messages wait in a queue."""
        with os.scandir(self._queues[queue]) as entries:
            return sum(1 for _ in entries)

    def unreadable(self) -> int:
        """Return how many messages were ever set aside in this folder."""
        try:
            return self._count.stat().st_size
        except FileNotFoundError:
            return 0

    def check(self) -> None:
        """Raise when the folder cannot be written."""
        probe = self._unreadable.parent / f"probe-{secrets.token_hex(6)}"
        _create(probe)
        probe.unlink()

    def close(self) -> None:
        """Nothing stays open between calls."""

    def _take_now(self, queue: str) -> str | None:
        """Take the oldest message: removing the file is what takes it."""
        known = self._known[queue]
        if not known:
            self._set_strays_aside()
            known.extend(self._waiting(queue))
        while known:
            job_id = known.popleft()
            with suppress(FileNotFoundError):  # another reader was faster
                (self._queues[queue] / job_id).unlink()
                return job_id
        return None

    def _waiting(self, queue: str) -> Iterator[str]:
        """Yield the messages of a queue, oldest first; what is none is set aside."""
        found = []
        try:
            entries = list(os.scandir(self._queues[queue]))
        except FileNotFoundError:
            self._prepare()
            return
        for entry in entries:
            with suppress(FileNotFoundError):
                if is_readable(entry.name) and entry.is_file(follow_symlinks=False):
                    found.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.name))
                else:
                    self._set_aside(Path(entry.path))
        yield from (name for _, name in sorted(found))

    def _set_strays_aside(self) -> None:
        with suppress(FileNotFoundError):
            for name in os.listdir(self._messages):  # noqa: PTH208 - names, in a loop that idles
                if name not in self._queues:
                    self._set_aside(self._messages / name)

    def _set_aside(self, path: Path) -> None:
        if str(path) in self._immovable:
            return
        kept = self._unreadable / f"{time.time_ns():020}-{secrets.token_hex(4)}"
        try:
            path.rename(kept)
        except FileNotFoundError:
            return
        except OSError as error:
            self._immovable.add(str(path))
            logger.warning("%r lies among the messages and cannot be moved: %s", path.name, error)
            return
        logger.warning("an unreadable message is set aside: %r", path.name[:100])
        with self._count.open("ab", buffering=0) as count:
            count.write(b".")
        for old in sorted(self._unreadable.iterdir())[:-KEPT_UNREADABLE]:
            with suppress(OSError):  # a folder with something in it stays
                old.rmdir() if old.is_dir() and not old.is_symlink() else old.unlink()

    @contextmanager
    def _listening(self, queues: Sequence[str]) -> Iterator[list[int]]:
        """Open the queues' pipes; what is written while nobody listens is forgotten."""
        pipes: list[int] = []
        try:
            for queue in queues:
                with suppress(OSError):
                    # For writing, too: a pipe without writers would be readable all the time.
                    pipes.append(os.open(self._pipes[queue], os.O_RDWR | os.O_NONBLOCK))
            yield pipes
        finally:
            for pipe in pipes:
                os.close(pipe)


def _create(path: Path) -> None:
    """Create an empty file; one that exists is left as it is."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _wake(pipe: Path) -> None:
    """Wake whoever listens."""
    try:
        writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.ENOENT):  # nobody listens; no pipe here
            raise
        return
    try:
        with suppress(BlockingIOError):  # so full that everybody is awake
            os.write(writer, b".")
    finally:
        os.close(writer)


def _listen(pipes: Sequence[int], seconds: float) -> None:
    """Wait for a byte in one of the pipes, and take it, so that one message wakes few readers."""
    if not pipes:
        time.sleep(min(seconds, RESCAN_WITHOUT_PIPE_SECONDS))
        return
    poll = select.poll()
    for pipe in pipes:
        poll.register(pipe, select.POLLIN)
    for pipe, _ in poll.poll(1000 * min(seconds, RESCAN_SECONDS)):
        with suppress(BlockingIOError):
            os.read(pipe, 1)
