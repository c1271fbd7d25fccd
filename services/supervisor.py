"""``bauta serve``: API, workers and keeper as processes of one machine, under one parent."""

import ctypes
import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from urllib.request import urlopen

from shared.db import OUTAGES, create_database_engine, first_line
from shared.db.migrate import upgrade
from shared.settings import Settings

logger = logging.getLogger(__name__)

STOP_SECONDS = 15.0
SHORT_LIFE_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """A process that is kept running."""

    name: str
    arguments: list[str]
    environment: dict[str, str]
    health_file: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_again_at: float = 0.0
    short_lives: int = field(default=0)

    def start(self) -> None:
        """Start it, so that it dies with its parent."""
        self.started_at = time.monotonic()
        arguments = self.arguments
        if self.health_file is not None:
            self.health_file.unlink(missing_ok=True)
            arguments = [*arguments, "--health-file", str(self.health_file)]
        self.process = subprocess.Popen(  # noqa: S603 - our own command line
            [sys.executable, "-m", "services.cli", *arguments],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - no threads run yet in this parent
        )

    @property
    def is_ready(self) -> bool:
        """Whether it has said that it is ready for work."""
        return self.health_file is None or self.health_file.exists()

    def watch(self) -> None:
        """Start it again when it has died; after short lives, only after a pause."""
        now = time.monotonic()
        if self.process is None:
            if now >= self.start_again_at:
                self.start()
            return
        code = self.process.poll()
        if code is None:
            return
        short = code != 0 and now - self.started_at < SHORT_LIFE_SECONDS
        self.short_lives = self.short_lives + 1 if short else 0
        pause = min(LONGEST_PAUSE_SECONDS, 0.5 * 2.0**self.short_lives) if short else 0.0
        logger.warning("%s ended with code %d; starting it again", self.name, code)
        self.process = None
        self.start_again_at = now + pause


def _die_with_parent() -> None:
    """Ask the kernel (Linux) for a SIGTERM when the parent dies, however it dies."""
    os.setpgid(0, 0)  # Ctrl-C reaches the parent only, which then stops the children in order
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Supervisor:
    """Keeps the processes of one machine running until it is told to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._signals = 0
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
        queues = ["interactive"] * settings.interactive_workers
        queues += ["interactive,batch"] * settings.batch_workers
        crew = [
            Child(f"worker {n}", ["worker", "--queues", names], shared, health / f"worker-{n}")
            for n, names in enumerate(queues, start=1)
        ]
        api = Child("api", ["api"], shared)
        keeper = Child("keeper", ["keeper"], shared, health / "keeper")
        self.children = [api, keeper, *crew]

    def run(self) -> int:
        """Run until SIGINT or SIGTERM; returns the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        for child in self.children:
            child.start()
        self._announce()
        while not self._stop.wait(0.2):
            for child in self.children:
                child.watch()
        return self._end()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._signals += 1
        self._stop.set()

    def _announce(self) -> None:
        """Say where the service answers, once it does and its workers are warm."""
        url = f"http://{_reachable(self._settings.host)}:{self._settings.port}"
        while not self._stop.wait(0.1):
            if _answers(f"{url}/livez") and all(child.is_ready for child in self.children):
                logger.info("Bauta answers at %s (docs at %s/docs); Ctrl-C stops it", url, url)
                return
            for child in self.children:
                child.watch()

    def _end(self) -> int:
        """Stop the children: politely, a second Ctrl-C impatiently, in the end for certain."""
        running = [child.process for child in self.children if child.process is not None]
        for process in running:
            process.terminate()
        patience = time.monotonic() + self._settings.drain_seconds + STOP_SECONDS
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
        return 0


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
    """Serve from this machine until told to stop."""
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
        return Supervisor(settings).run()
