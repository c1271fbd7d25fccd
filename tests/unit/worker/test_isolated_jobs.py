"""A job that hangs in a process of its own: it beats, and ends when it is told to."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from services.worker.jobs.kit.isolated import import_isolated
from services.worker.runtime.context import JobContext
from services.worker.runtime.isolated import ProcessLimits
from tests import isolated_functions
from tests.unit.worker.conftest import TENANT, Bench

HANGS = f"{isolated_functions.__name__}:hold_the_lock"
LIMITS = ProcessLimits(memory_bytes=2**30, file_bytes=2**20)


def cancel(bench: Bench, job_id: str) -> None:
    bench.repository.jobs.cancel(TENANT, job_id)


def delete(bench: Bench, job_id: str) -> None:
    bench.repository.jobs.purge(TENANT, job_id)


@pytest.mark.parametrize(("stop", "state"), [(cancel, "cancelled"), (delete, None)])
def test_a_hanging_import_keeps_its_lease_and_can_be_stopped(
    bench: Bench, stop: Callable[[Bench, str], None], state: str | None
) -> None:
    """The function holds its interpreter's lock for years, within one call of C."""
    job_id = bench.create()
    processes: list[int] = []
    leases: set[float | None] = set()

    def run(context: JobContext, spec: Any) -> Any:
        def progress(done: int, total: int, message: str = "", **data: Any) -> None:
            processes.append(int(message))

        context.progress = progress  # type: ignore[method-assign]
        return import_isolated(
            context,
            HANGS,
            {},
            files=(),
            limits=LIMITS,
            refusal="RejectedError",
            problem="invalid-archive",
        )

    def client() -> None:
        while not processes:
            time.sleep(0.01)
        while len(leases) < 5:  # each renewal states another end
            leases.add(bench.job(job_id).lease_expires_at)
            time.sleep(0.01)
        stop(bench, job_id)

    thread = threading.Thread(target=client)
    thread.start()
    bench.heartbeat.start()
    try:
        bench.engine(run).look(job_id)
    finally:
        bench.heartbeat.stop()
        thread.join()
    assert len(leases) == 5
    assert not isolated_functions.is_alive(processes[0])
    assert bench.exits == []
    job = bench.repository.jobs.get(TENANT, job_id)
    assert (None if job is None else job.state) == state
