"""Processes under one parent: all of ``bauta serve``, or the one that a container runs."""

import fcntl
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from urllib.request import urlopen

from services.child import Child
from shared.db import OUTAGES, create_database_engine, first_line
from shared.db.migrate import upgrade
from shared.settings import Settings

logger = logging.getLogger(__name__)

PROGRAM = (sys.executable, "-m", "services.cli")
STOP_SECONDS = 15.0
WATCH_SECONDS = 0.2


class Supervisor:
    """Keeps processes running until it is stopped."""

    def __init__(self, children: list[Child], *, drain_seconds: float) -> None:
        self.children = children
        self._drain_seconds = drain_seconds
        self._stop = threading.Event()
        self._signals = 0

    def run(self, *, each_round: Callable[[], bool]) -> None:
        """Run until SIGINT or SIGTERM, or until ``each_round`` is false; then stop the children."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        for child in self.children:
            child.start()
        while not self._stop.wait(WATCH_SECONDS) and each_round():
            for child in self.children:
                child.watch()
        self._end()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._signals += 1
        self._stop.set()

    def _end(self) -> None:
        """Stop the children: politely, a second Ctrl-C impatiently, in the end for certain."""
        running = [process for child in self.children for process in child.processes]
        for process in running:
            process.terminate()
        patience = time.monotonic() + self._drain_seconds + STOP_SECONDS
        told = 1
        while any(process.poll() is None for process in running) and time.monotonic() < patience:
            if self._signals > told:
                told = self._signals
                for process in running:
                    process.terminate()
            time.sleep(0.05)
        for process in running:
            if process.poll() is None:
                logger.warning("process %d does not stop and is killed", process.pid)
                process.kill()
                process.wait()


def children_of(settings: Settings) -> list[Child]:
    """Return what ``bauta serve`` runs."""
    workers = settings.interactive_workers + settings.batch_workers
    threads = settings.threads or max(1, (os.cpu_count() or 1) // workers)
    shared = {
        "BAUTA_DATA_DIR": str(settings.data_dir.resolve()),
        "BAUTA_HOST": settings.host,
        "BAUTA_PORT": str(settings.port),
        "BAUTA_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
    }
    health = settings.data_dir.resolve() / "health"
    health.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in health.iterdir():
        left.unlink()
    queues = ["interactive"] * settings.interactive_workers
    queues += ["interactive,batch"] * settings.batch_workers
    hung = settings.hung_seconds
    crew = [
        Child(
            f"worker {number}",
            [*PROGRAM, "worker", "--queues", names, "--supervised"],
            shared,
            health / f"worker-{number}",
            hung,
        )
        for number, names in enumerate(queues, start=1)
    ]
    keeper = Child("keeper", [*PROGRAM, "keeper"], shared, health / "keeper", hung)
    api = Child("api", [*PROGRAM, "api"], shared, health / "api", hung)
    return [api, keeper, *crew]


class _Announcement:
    """Says where the service answers, once it does and its workers are warm."""

    def __init__(self, settings: Settings, children: list[Child]) -> None:
        self._url = f"http://{_reachable(settings.host)}:{settings.port}"
        self._children = children
        self._made = False

    def __call__(self) -> bool:
        ready = self._made or all(child.is_ready for child in self._children)
        if ready and not self._made and _answers(f"{self._url}/livez"):
            logger.info(
                "Bauta answers at %s (docs at %s/docs); Ctrl-C stops it", self._url, self._url
            )
            self._made = True
        return True


def _reachable(host: str) -> str:
    """Return how this machine itself reaches an address that was bound."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared with, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2):  # noqa: S310 - our own address
            return True
    except OSError:
        return False


def _locked(settings: Settings) -> TextIOWrapper | None:
    """Lock the data folder for this process; ``None`` when another one serves from it."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = (settings.data_dir / "serve.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock


def run(settings: Settings) -> int:
    """Serve from this machine until stopped."""
    lock = _locked(settings)
    if lock is None:
        logger.error("another `bauta serve` uses %s: stop it first", settings.data_dir)
        return 1
    with lock:
        try:
            upgrade(create_database_engine(settings.database, pool_size=1))
        except OUTAGES as error:
            logger.error("the database cannot be upgraded: %s", first_line(error))  # noqa: TRY400
            return 1
        children = children_of(settings)
        supervisor = Supervisor(children, drain_seconds=settings.drain_seconds)
        supervisor.run(each_round=_Announcement(settings, children))
        return 0


def run_watched(settings: Settings, arguments: list[str], *, health_file: Path) -> int:
    """Run one command in a process of its own, and again when it dies or hangs.

    ``health_file`` is touched while that process shows its health. When it ends before it was ever
    ready, so does this one, with its exit code: whoever started it reads why.
    """
    child = Child(arguments[0], [*PROGRAM, *arguments], {}, health_file, settings.hung_seconds)

    def each_round() -> bool:
        if child.is_well:
            health_file.touch()
        return child.was_ready or child.code is None

    supervisor = Supervisor([child], drain_seconds=settings.drain_seconds)
    supervisor.run(each_round=each_round)
    return 0 if child.was_ready or child.code is None else child.code
