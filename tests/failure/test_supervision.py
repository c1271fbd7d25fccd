"""The real worker under the real supervision: frozen, and recycled without a gap."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import httpx
import pytest

from services.child import Child
from tests.failure.stack import PACE, WORKER, Stack
from tests.fixtures.process import free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@contextmanager
def supervised(
    stack: Stack,
    *,
    command: tuple[str, ...] = (*WORKER, "--supervised"),
    hung_seconds: float = 60,
    **variables: str,
) -> Iterator[Child]:
    """Keep one process running as ``bauta serve`` does: a worker by default."""
    environment = {**PACE, **stack.environment, **variables}
    child = Child(
        "child",
        [sys.executable, *command],
        environment,
        stack.folder / "health",
        hung_seconds=hung_seconds,
    )
    stop = Event()

    def watch() -> None:
        child.start()
        while not stop.wait(0.05):
            child.watch()

    thread = Thread(target=watch)
    thread.start()
    try:
        stack.wait(lambda: child.is_ready, what="the process")
        yield child
    finally:
        stop.set()
        thread.join()
        for process in child.processes:
            process.kill()
            process.wait()


def test_a_frozen_worker_is_replaced_and_its_job_runs_again(stack: Stack) -> None:
    stack.keeper()
    with supervised(stack, hung_seconds=15, BAUTA_LEASE_SECONDS="10") as child:
        job_id = stack.create(seconds=2)
        stack.wait_until_begun(job_id)
        frozen = child.processes[0]
        frozen.send_signal(signal.SIGSTOP)

        job = stack.wait_for(job_id, "succeeded", seconds=120)

        assert (job.losses, child.hung) == (1, 1)
        assert frozen.wait(30) == -signal.SIGKILL


def test_recycling_leaves_no_gap(embedded: Stack) -> None:
    with supervised(embedded, BAUTA_RECYCLE_AFTER_JOBS="15", BAUTA_BATCH_JOBS="1") as child:
        by = []
        for _ in range(1000):
            job = embedded.wait_for(embedded.create(seconds=0.02), "succeeded")
            assert child.is_ready, "for a moment there was no worker"
            by.append((job.result or {})["process"])
            if len(set(by)) == 3:
                break

    assert len(set(by)) == 3, "it was relieved twice"
    assert child.hung == 0
    first = by.count(by[0])
    assert first >= 15, "it worked until it was due"


def test_a_frozen_api_is_replaced_and_answers_again(stack: Stack) -> None:
    port = free_port()
    command = ("-m", "services.cli", "api", "--port", str(port))

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/livez", timeout=1).is_success
        except httpx.TransportError:
            return False

    with supervised(stack, command=command, hung_seconds=5) as child:
        assert answers()
        frozen = child.processes[0]
        frozen.send_signal(signal.SIGSTOP)
        assert not answers()

        stack.wait(answers, what="another API")

        assert child.hung == 1
        assert frozen.wait(30) == -signal.SIGKILL


# Takes SQLite's only write lock and stops itself, as a suspended process would.
HOLDER = """
import os, signal, sqlite3, sys
from pathlib import Path

connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
Path(sys.argv[3]).touch()
os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_a_process_frozen_inside_a_write_to_sqlite_is_killed_and_others_go_on(
    embedded: Stack,
) -> None:
    database = str(embedded.engine.url.database)

    with supervised(embedded, command=("-c", HOLDER, database), hung_seconds=4) as child:
        frozen = child.processes[0]
        embedded.create(ring=False)

        assert frozen.wait(30) == -signal.SIGKILL
