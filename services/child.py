"""A process that is kept running: started again when it dies or hangs, relieved when it is due."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

logger = logging.getLogger(__name__)

RETIRING = "retiring"  # in a health file: start my successor, then send RELIEF
RELIEF = signal.SIGUSR1
SHORT_LIFE_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 10.0
START_SECONDS = 600.0
FAILED_SUCCESSORS = 2
_PR_SET_PDEATHSIG = 1


class Life:
    """One process from its start to its end, watched through its health file."""

    def __init__(
        self, command: list[str], environment: dict[str, str], health_file: Path | None
    ) -> None:
        self.health_file = health_file
        self.started_at = self._changed_at = time.monotonic()
        self._modified: int | None = None
        if health_file is not None:
            health_file.unlink(missing_ok=True)
            command = [*command, "--health-file", str(health_file)]
        self.process = subprocess.Popen(  # noqa: S603 - our own command line
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - no threads run in this parent
        )

    @property
    def is_ready(self) -> bool:
        """Whether it has said that it is ready for work."""
        return self.health_file is None or self.health_file.exists()

    @property
    def is_retiring(self) -> bool:
        """Whether it asks for a successor."""
        try:
            return self.health_file is not None and self.health_file.read_text() == RETIRING
        except FileNotFoundError:
            return False

    def silent_seconds(self) -> float:
        """Return for how long its health file has not changed, by this process's own clock.

        The file's time is compared with itself only: a laptop that slept, or a clock that was set,
        makes nobody silent.
        """
        if self.health_file is None:
            return 0.0
        now = time.monotonic()
        try:
            modified = self.health_file.stat().st_mtime_ns
        except FileNotFoundError:
            return now - self._changed_at
        if modified != self._modified:
            self._modified, self._changed_at = modified, now
        return now - self._changed_at

    def end(self) -> None:
        """Forget its health file."""
        if self.health_file is not None:
            self.health_file.unlink(missing_ok=True)


@dataclass
class Child:
    """Keeps one process of a kind running.

    ``health_file`` is the stem of its lives' files; without one it is watched for its exit only.
    A life whose file does not change for ``hung_seconds`` is killed (SIGKILL) and followed by
    another. One that asks to retire works on until its successor is ready.
    """

    name: str
    command: list[str]
    environment: dict[str, str]
    health_file: Path | None = None
    hung_seconds: float = 60.0
    hung: int = 0  # how often it was killed for its silence
    code: int | None = None  # of the life that ended last
    was_ready: bool = False
    _life: Life | None = None
    _successor: Life | None = None
    _leaving: list[Life] = field(default_factory=list)
    _start_at: float = 0.0
    _short_lives: int = 0
    _failed_successors: int = 0
    _begun: int = 0

    def start(self) -> None:
        """Start it, so that it dies with its parent."""
        self._life = self._begin()

    @property
    def is_ready(self) -> bool:
        """Whether the process that is to work has said that it is ready."""
        return self._life is not None and self._life.is_ready

    @property
    def is_well(self) -> bool:
        """Whether it is ready and not silent."""
        return self.is_ready and self._life is not None and not self._is_hung(self._life)

    @property
    def processes(self) -> list[subprocess.Popen[bytes]]:
        """All processes of it that may still run."""
        lives = [self._life, self._successor, *self._leaving]
        return [life.process for life in lives if life is not None]

    def watch(self) -> None:
        """Do what its state asks for. Cheap: called several times a second."""
        self._leaving = [life for life in self._leaving if not self._has_ended(life)]
        for life in [*self._leaving, self._successor, self._life]:
            if life is not None and self._is_hung(life):
                self._kill(life)
        self._watch_successor()
        self._watch_life()

    def _begin(self) -> Life:
        file = self.health_file
        if file is not None:
            file = file.with_name(f"{file.name}.{self._begun}")
        self._begun += 1
        return Life(self.command, self.environment, file)

    def _is_hung(self, life: Life) -> bool:
        return life.silent_seconds() > (self.hung_seconds if life.is_ready else START_SECONDS)

    def _kill(self, life: Life) -> None:
        self.hung += 1
        logger.error(
            "%s (process %d) hangs: it has not shown its health for %.0f s; killed, the %d. time",
            self.name,
            life.process.pid,
            life.silent_seconds(),
            self.hung,
        )
        life.process.kill()
        life.process.wait()

    def _has_ended(self, life: Life) -> bool:
        code = life.process.poll()
        if code is None:
            return False
        self.code = code
        life.end()
        return True

    def _watch_life(self) -> None:
        now = time.monotonic()
        if self._life is None:
            if now >= self._start_at:
                self.start()
            return
        self.was_ready = self.was_ready or self._life.is_ready
        if not self._has_ended(self._life):
            if self._successor is None and self._life.is_retiring and now >= self._start_at:
                self._successor = self._begin()
            return
        if self._successor is not None:  # it is on its way already
            self._life, self._successor = self._successor, None
            return
        short = self.code != 0 and now - self._life.started_at < SHORT_LIFE_SECONDS
        self._short_lives = self._short_lives + 1 if short else 0
        pause = min(LONGEST_PAUSE_SECONDS, 0.5 * 2.0**self._short_lives) if short else 0.0
        logger.warning("%s ended with code %d; starting it again", self.name, self.code)
        self._life, self._start_at = None, now + pause

    def _watch_successor(self) -> None:
        if self._successor is None or self._life is None:
            return
        if self._has_ended(self._successor):
            self._successor = None
            self._failed_successors += 1
            self._start_at = time.monotonic() + LONGEST_PAUSE_SECONDS
            logger.warning("the successor of %s ended with code %d", self.name, self.code)
            if self._failed_successors >= FAILED_SUCCESSORS:  # no room for two of them, perhaps
                self._failed_successors = 0
                self._life.process.send_signal(RELIEF)
        elif self._successor.is_ready:
            logger.info("%s is relieved by process %d", self.name, self._successor.process.pid)
            self._life.process.send_signal(RELIEF)
            self._leaving.append(self._life)
            self._life, self._successor = self._successor, None
            self._failed_successors = 0


def _die_with_parent() -> None:
    """Ask the kernel (Linux) for a SIGTERM when the parent dies, however it dies."""
    os.setpgid(0, 0)  # Ctrl-C reaches the parent only, which then stops the children in order
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
