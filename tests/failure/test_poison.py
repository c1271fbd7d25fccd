"""Jobs that kill their worker, and 200 jobs whose workers are killed at random."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shared.db.queries import job_prefix
from tests.failure.stack import TENANT, Stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@contextmanager
def kept_alive(stack: Stack, workers: int, *, kills: int = 0) -> Iterator[None]:
    """Keep so many workers running, as a supervisor does; kill some at random moments.

    Between two kills some jobs end, so that the test ends on a slow machine, too.
    """
    stop = threading.Event()
    dice = random.Random(1)

    def supervise() -> None:
        crew = [stack.worker(BAUTA_BATCH_JOBS="4") for _ in range(workers)]
        left, kill_after = kills, 1
        while not stop.wait(0.02):
            for index, worker in enumerate(crew):
                if worker.poll() is not None:
                    crew[index] = stack.worker(BAUTA_BATCH_JOBS="4")
            if left and ended(stack) >= kill_after:
                time.sleep(dice.uniform(0, 0.2))
                dice.choice(crew).kill()
                left, kill_after = left - 1, ended(stack) + dice.randint(4, 12)

    thread = threading.Thread(target=supervise)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def ended(stack: Stack) -> int:
    """Return how many jobs have ended."""
    counts = stack.repository.jobs.counts()
    return sum(number for _, state, number in counts if state in ("succeeded", "failed"))


def test_a_poison_job_fails_after_three_workers_and_takes_no_other_along(stack: Stack) -> None:
    stack.keeper()
    family = {"family": "one batch"}
    good = [stack.create(ring=False, seconds=0.05, **family) for _ in range(3)]
    poison = stack.create(ring=False, dies=True, **family)
    good += [stack.create(ring=False, seconds=0.05, **family) for _ in range(3)]
    with kept_alive(stack, 1):
        job = stack.wait_for(poison, "failed", "succeeded", seconds=60)
        ended = [stack.wait_for(job_id, "succeeded", "failed") for job_id in good]

    assert job.problem is not None
    assert (job.problem["type"], job.losses) == ("/problems/worker-lost", 3)
    assert [job.state for job in ended] == ["succeeded"] * 6
    assert all(job.losses <= 1 for job in ended), "it took good ones along after it was known"


def test_a_job_that_raises_fails_alone_and_tells_no_internals(stack: Stack) -> None:
    family = {"family": "one batch"}
    good = [stack.create(ring=False, **family) for _ in range(2)]
    bad = stack.create(ring=False, raises="a secret of the inside", **family)
    good += [stack.create(ring=False, **family) for _ in range(2)]
    stack.worker()

    job = stack.wait_for(bad, "failed")

    assert job.problem is not None
    assert job.problem["type"] == "/problems/job-failed"
    assert job.problem["incident"] in stack.tail()
    assert "secret" not in str(job.problem)
    assert [stack.wait_for(job_id, "succeeded").fence for job_id in good] == [1] * 4


def test_two_hundred_jobs_under_random_kills_each_end_once(stack: Stack) -> None:
    jobs = [
        stack.create(ring=number % 3 > 0, seconds=0.03, family="crowd" if number % 2 else None)
        for number in range(200)
    ]
    stack.start(("-m", "services.cli", "keeper"), BAUTA_MAX_LOSSES="50")
    with kept_alive(stack, 3, kills=15):
        stack.wait(lambda: ended(stack) == 200, what="200 ends", seconds=150)

    rows = [stack.job(job_id) for job_id in jobs]
    assert [row.state for row in rows] == ["succeeded"] * 200
    assert sum(row.losses for row in rows) > 0, "no kill hit a job: the test tested nothing"
    for row in rows:
        assert stack.count(row.id, "succeeded") == 1
        assert (row.result or {})["attempt"] == row.fence
        assert stack.output(row.id) == f"{row.id} {row.fence}".encode()
    lost = next(row for row in rows if row.losses)
    earlier = job_prefix(TENANT, lost.id, 1)
    stack.wait(lambda: not list(stack.objects.keys(earlier)), what="losing attempts to be swept")
