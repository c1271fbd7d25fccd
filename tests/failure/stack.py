"""A whole deployment of a test's own: its database, broker and objects, and its processes."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shared.db import Repository, create_database_engine
from shared.db.jobs import NewJob
from shared.db.migrate import upgrade
from shared.db.queries import new_id
from shared.db.tables import Event, Job
from shared.doorbell import Doorbell
from shared.objects import ObjectStore
from shared.settings import Settings
from tests.failure.trial import TrialSpec, register

TENANT = "tests"
ROOT = Path(__file__).resolve().parents[2]
PACE = {
    "BAUTA_LEASE_SECONDS": "2",
    "BAUTA_HEARTBEAT_SECONDS": "0.4",
    "BAUTA_KEEPER_SECONDS": "0.2",
    "BAUTA_RING_AGAIN_SECONDS": "0.4",
    "BAUTA_DRAIN_SECONDS": "1",
    "BAUTA_DEADLINE_GRACE_SECONDS": "1",
    "BAUTA_MAX_DEADLINE_SECONDS": "3",
    "BAUTA_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
WORKER = ("-m", "tests.failure.worker")
KEEPER = ("-m", "services.cli", "keeper")


@dataclass
class Stack:
    """One deployment. ``environment`` holds the ``BAUTA_*`` variables of all its processes."""

    environment: Mapping[str, str]
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        register()
        values = {
            name.removeprefix("BAUTA_").lower(): value
            for name, value in {**PACE, **self.environment}.items()
            if name.startswith("BAUTA_")
        }
        self.settings = Settings.model_validate(values)
        self.engine = create_database_engine(self.settings.database)
        upgrade(self.engine)
        self.repository = Repository(self.engine)
        self.objects = ObjectStore.from_settings(self.settings)
        self.doorbell = Doorbell(self.settings)

    @property
    def log(self) -> Path:
        """Where all processes log to."""
        return self.folder / "processes.log"

    def start(self, command: tuple[str, ...], **variables: str) -> subprocess.Popen[bytes]:
        """Start a process of this deployment."""
        environment = {**os.environ, **PACE, **self.environment, **variables}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def worker(self, **variables: str) -> subprocess.Popen[bytes]:
        """Start a worker."""
        return self.start(WORKER, **variables)

    def keeper(self) -> subprocess.Popen[bytes]:
        """Start a keeper."""
        return self.start(KEEPER)

    def create(self, *, ring: bool = True, **spec: object) -> str:
        """Create a job, and ring for it as the API does."""
        job_id = new_id("job")
        new = NewJob(id=job_id, tenant_id=TENANT, spec=TrialSpec.model_validate(spec))
        self.repository.jobs.create(
            new, max_queued=10_000, retention_seconds=3600, ring_again_seconds=0.4
        )
        if ring:
            self.doorbell.ring(job_id, new.spec.queue)
        return job_id

    def job(self, job_id: str) -> Job:
        """Return the job's row as it is now."""
        job = self.repository.jobs.get(TENANT, job_id)
        assert job is not None
        return job

    def events(self, job_id: str) -> list[Event]:
        """Return what happened to the job."""
        return self.repository.jobs.events_after(TENANT, job_id, 0)

    def count(self, job_id: str, kind: str) -> int:
        """Return how many events of a type the job has."""
        return sum(event.type == kind for event in self.events(job_id))

    def output(self, job_id: str) -> bytes:
        """Return the bytes of the job's main artifact, as a client gets them."""
        artifact = self.repository.jobs.artifact(TENANT, job_id, "output.txt")
        assert artifact is not None
        return self.objects.get(artifact.object_key)

    def wait(
        self, holds: Callable[[], bool], *, what: str = "a condition", seconds: float = 40
    ) -> None:
        """Poll until ``holds``; fails the test, with the processes' log, when it never does."""
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                raise AssertionError(f"waited {seconds} s for {what}\n{self.tail()}")
            time.sleep(0.05)

    def wait_for(self, job_id: str, *states: str, seconds: float = 40) -> Job:
        """Wait until the job is in one of these states."""
        self.wait(
            lambda: self.job(job_id).state in states,
            what=f"{job_id} to be {' or '.join(states)}",
            seconds=seconds,
        )
        return self.job(job_id)

    def wait_until_begun(self, job_id: str) -> Job:
        """Wait until the job is at work."""
        self.wait(
            lambda: self.job(job_id).state == "running" and self.job(job_id).progress is not None,
            what=f"{job_id} to be at work",
        )
        return self.job(job_id)

    def tail(self) -> str:
        """Return the end of the processes' log."""
        return self.log.read_text()[-20000:] if self.log.exists() else ""

    def close(self) -> None:
        """End every process that the test started."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        self.doorbell.close()
        self.engine.dispose()


def end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGKILL) -> int:
    """Send a signal that ends a process and wait for its exit code."""
    process.send_signal(number)
    return process.wait(30)


def fresh_name() -> str:
    """Return a name that nobody else uses."""
    return f"test-{secrets.token_hex(6)}"
