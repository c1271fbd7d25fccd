"""One watcher a process: tells waiting requests that their job has changed.

A waiter costs a future: no thread, no database connection. The watcher's thread follows the
database by one connection (SQLite's data version, Postgres' notifications), and asks for the
watched jobs only when something was committed.
"""

import asyncio
import logging
import threading
import time
from collections import defaultdict
from dataclasses import dataclass

from services.api.change_sources import SAFETY_SECONDS, ChangeSource, open_source
from shared.db import Repository, first_line
from shared.db.jobs import Snapshot
from shared.db.tables import FINAL_STATES
from shared.problems import Problem

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5


@dataclass(eq=False)
class _Waiter:
    after_seq: int | None
    future: asyncio.Future[Snapshot | None]

    def wants(self, snapshot: Snapshot) -> bool:
        """Whether this is what it waits for."""
        if self.after_seq is None:
            return snapshot.state in FINAL_STATES
        return snapshot.event_seq > self.after_seq


class Watcher:
    """Wakes waiters. Create it inside the event loop that they run in."""

    def __init__(self, repository: Repository, *, max_waiters: int) -> None:
        self._repository = repository
        self._max_waiters = max_waiters
        self._loop = asyncio.get_running_loop()
        self._waiters: dict[str, set[_Waiter]] = defaultdict(set)
        self._listeners: set[asyncio.Future[None]] = set()
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._fresh = threading.Event()
        self._stopped = threading.Event()
        self.waiting = 0
        self.commits = 0  # heard of while anybody waits
        self._following: ChangeSource | None = None
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    @property
    def closing(self) -> bool:
        """Whether the process is shutting down, so that no request should wait."""
        return self._stopped.is_set()

    def refuse_when_full(self) -> None:
        """Raise the problem ``too-many-waiting`` at the limit of waiting requests."""
        if self.waiting >= self._max_waiters:
            problem = Problem("too-many-waiting", f"{self.waiting} requests are waiting already.")
            raise problem.with_headers(Retry_After="2")

    def release(self) -> None:
        """Wake all waiting requests and refuse new ones."""
        self._stopped.set()
        self._look_up()
        with self._lock:
            waiters = [waiter for waiting in self._waiters.values() for waiter in waiting]
        for waiter in waiters:
            self._wake(waiter, None)
        self._wake_listeners()

    def close(self) -> None:
        """Release everybody and stop."""
        self.release()
        self._thread.join(timeout=5)

    async def wait(self, job_id: str, *, after_seq: int | None, timeout: float) -> Snapshot | None:
        """Return the job's snapshot once its event number exceeds ``after_seq``.

        Without a number it waits for the job's end, and no event before wakes it. Returns ``None``
        after ``timeout`` seconds, for a job that does not exist, and when the process is shutting
        down. Raises the problem ``too-many-waiting``.
        """
        self.refuse_when_full()
        if self.closing:
            return None
        waiter = _Waiter(after_seq, self._loop.create_future())
        with self._lock:
            self._waiters[job_id].add(waiter)
        self.waiting += 1
        self._fresh.set()
        self._look_up()
        try:
            return await asyncio.wait_for(waiter.future, timeout)
        except TimeoutError:
            return None
        finally:
            self.waiting -= 1
            with self._lock:
                self._waiters[job_id].discard(waiter)
                if not self._waiters[job_id]:
                    del self._waiters[job_id]

    async def wait_for_any(self, *, after: int, timeout: float) -> bool:
        """Return true once ``commits`` exceeds ``after``; false after ``timeout`` seconds.

        For streams that follow many jobs: what has changed is theirs to find out. Raises the
        problem ``too-many-waiting``.
        """
        self.refuse_when_full()
        if self.closing:
            return False
        if self.commits > after:
            return True
        heard: asyncio.Future[None] = self._loop.create_future()
        with self._lock:
            self._listeners.add(heard)
        self.waiting += 1
        self._look_up()
        try:
            await asyncio.wait_for(heard, timeout)
        except TimeoutError:
            return False
        finally:
            self.waiting -= 1
            with self._lock:
                self._listeners.discard(heard)
        return True

    def _look_up(self) -> None:
        """Make the watcher's thread notice what has just been set."""
        self._wanted.set()
        with self._lock:
            if self._following is not None:
                self._following.interrupt()

    def _run(self) -> None:
        lost = False
        while not self._stopped.is_set():
            source: ChangeSource | None = None
            try:
                source = open_source(self._repository)
                lost = False
                with self._lock:
                    self._following = source
                self._follow(source)
            except Exception as error:  # a dead watcher would leave everybody waiting
                if not lost:
                    logger.warning("the watcher lost the database: %.200s", first_line(error))
                lost = True
                self._stopped.wait(RETRY_SECONDS)
            finally:
                if source is not None:
                    with self._lock:
                        self._following = None
                    source.close()

    def _follow(self, source: ChangeSource) -> None:
        asked = 0.0
        while not self._stopped.is_set():
            if not (self._waiters or self._listeners):
                self._wanted.clear()
                if not (self._waiters or self._listeners):
                    self._wanted.wait()
                continue
            due = time.monotonic() - asked > SAFETY_SECONDS
            look = self._fresh.is_set() or due
            if not look:
                look = source.changed(self._hear)
                if look:
                    self._wake_listeners()
            if not look:
                continue
            self._fresh.clear()
            asked = time.monotonic()
            if self._waiters:
                self._compare()

    def _hear(self, job_id: str, seq: int, event: str) -> bool:
        """Wake whoever waits for a job's end; whether others wait for an event before."""
        self._wake_listeners()
        with self._lock:
            waiters = tuple(self._waiters.get(job_id, ()))
        if event not in FINAL_STATES:
            return any(waiter.after_seq is not None for waiter in waiters)
        snapshot = Snapshot(seq, event)
        for waiter in waiters:
            if waiter.wants(snapshot):
                self._wake(waiter, snapshot)
        return False

    def _compare(self) -> None:
        """Wake whoever waits for something that has happened."""
        with self._lock:
            watched = {job_id: tuple(waiters) for job_id, waiters in self._waiters.items()}
        found = self._repository.jobs.snapshots(watched)
        for job_id, waiters in watched.items():
            snapshot = found.get(job_id)
            for waiter in waiters:
                if snapshot is None or waiter.wants(snapshot):
                    self._wake(waiter, snapshot)

    def _wake_listeners(self) -> None:
        with self._lock:
            self.commits += 1
            listeners, self._listeners = self._listeners, set()

        def set_results() -> None:
            for heard in listeners:
                if not heard.done():
                    heard.set_result(None)

        if listeners:
            self._loop.call_soon_threadsafe(set_results)

    def _wake(self, waiter: _Waiter, snapshot: Snapshot | None) -> None:
        def set_result() -> None:
            if not waiter.future.done():
                waiter.future.set_result(snapshot)

        self._loop.call_soon_threadsafe(set_result)
