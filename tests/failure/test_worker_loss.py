"""Workers that die, freeze, or are told to go: no job is lost, none ends twice."""

import signal
import time

import pytest

from shared.db.queries import job_prefix
from shared.objects import ObjectMissingError
from tests.failure.stack import TENANT, Stack, end

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def test_a_job_whose_worker_is_killed_runs_again(stack: Stack) -> None:
    stack.keeper()
    first = stack.worker()
    job_id = stack.create(seconds=2)
    stack.wait_until_begun(job_id)
    left_behind = job_prefix(TENANT, job_id, 1) + "half.bin"
    stack.objects.put(left_behind, b"of the first attempt")
    end(first)
    second = stack.worker()

    job = stack.wait_for(job_id, "succeeded", "failed")

    assert (job.state, job.losses, job.fence) == ("succeeded", 1, 2)
    assert job.result is not None
    assert (job.result["attempt"], job.result["process"]) == (2, second.pid)
    assert stack.output(job_id) == f"{job_id} 2".encode()
    assert stack.count(job_id, "succeeded") == 1
    stack.wait(lambda: not list(stack.objects.keys(job_prefix(TENANT, job_id, 1))))


def test_a_long_job_goes_on_from_its_checkpoint(stack: Stack) -> None:
    stack.keeper()
    first = stack.worker()
    job_id = stack.create(checkpoints=12)
    stack.wait(lambda: (stack.job(job_id).progress or {}).get("done", 0) >= 4)
    end(first)
    stack.worker()

    job = stack.wait_for(job_id, "succeeded", "failed")

    assert job.result is not None
    steps = job.result["steps"]
    assert len(steps) == 12
    assert steps.count(1) >= 4, "the first attempt's steps were done again"
    assert steps == sorted(steps)
    stack.wait(lambda: len(list(stack.objects.keys(job_prefix(TENANT, job_id)))) == 1)


def test_a_frozen_worker_that_wakes_late_overwrites_nothing(stack: Stack) -> None:
    stack.keeper()
    frozen = stack.worker()
    job_id = stack.create(seconds=1.5, heeds=False)
    stack.wait_until_begun(job_id)
    frozen.send_signal(signal.SIGSTOP)
    stack.wait(lambda: stack.job(job_id).losses == 1, what="the lease to run out")
    awake = stack.worker()
    job = stack.wait_for(job_id, "succeeded")
    frozen.send_signal(signal.SIGCONT)
    time.sleep(2.5)  # time enough for it to store and finish, if it could

    assert stack.job(job_id).result == job.result
    assert job.result is not None
    assert job.result["process"] == awake.pid
    assert stack.output(job_id) == f"{job_id} 2".encode()
    assert stack.count(job_id, "succeeded") == 1
    # It works on as any other.
    end(awake)
    another = stack.create()
    stack.wait_for(another, "succeeded")


def test_sigterm_hands_a_long_job_back_without_a_loss(stack: Stack) -> None:
    stack.keeper()
    first = stack.worker()
    job_id = stack.create(seconds=4)
    stack.wait_until_begun(job_id)

    code = end(first, signal.SIGTERM)

    assert code == 0
    stack.worker()
    job = stack.wait_for(job_id, "succeeded")
    assert (job.losses, job.fence) == (0, 2)


def test_sigterm_lets_a_short_job_finish_and_takes_no_other(stack: Stack) -> None:
    worker = stack.worker(BAUTA_DRAIN_SECONDS="20")
    running = stack.create(seconds=1.5)
    waiting = stack.create(seconds=1.5)
    stack.wait_until_begun(running)

    code = end(worker, signal.SIGTERM)

    assert code == 0
    assert (stack.job(running).state, stack.job(running).fence) == ("succeeded", 1)
    assert stack.job(waiting).state == "queued"


def test_a_second_sigterm_hands_back_at_once(embedded: Stack) -> None:
    worker = embedded.worker(BAUTA_DRAIN_SECONDS="60")
    job_id = embedded.create(seconds=50)
    embedded.wait_until_begun(job_id)
    worker.send_signal(signal.SIGTERM)
    time.sleep(0.5)

    code = end(worker, signal.SIGTERM)

    assert code == 0
    assert (embedded.job(job_id).state, embedded.job(job_id).losses) == ("queued", 0)


def test_a_job_deaf_to_sigterm_is_handed_back_too(embedded: Stack) -> None:
    worker = embedded.worker()
    job_id = embedded.create(seconds=50, heeds=False)
    embedded.wait_until_begun(job_id)

    code = end(worker, signal.SIGTERM)

    assert code == 0
    assert (embedded.job(job_id).state, embedded.job(job_id).losses) == ("queued", 0)


def test_a_job_stuck_past_its_deadline_ends_with_its_worker(stack: Stack) -> None:
    worker = stack.worker()
    stuck = stack.create(seconds=50, heeds=False, limit_seconds=0.5)

    job = stack.wait_for(stuck, "failed")

    assert job.problem is not None
    assert job.problem["type"] == "/problems/deadline-exceeded"
    assert worker.wait(20) != 0, "its supervisor has to see that it did not end well"


def test_a_job_past_its_deadline_stops_by_itself(embedded: Stack) -> None:
    worker = embedded.worker()
    late = embedded.create(seconds=50, limit_seconds=0.5)
    after = embedded.create()

    job = embedded.wait_for(late, "failed")

    assert job.problem is not None
    assert job.problem["type"] == "/problems/deadline-exceeded"
    embedded.wait_for(after, "succeeded")
    assert worker.poll() is None


def test_a_cancelled_job_stops(stack: Stack) -> None:
    stack.worker()
    job_id = stack.create(seconds=50)
    stack.wait_until_begun(job_id)
    stack.repository.jobs.cancel(TENANT, job_id)

    job = stack.wait_for(job_id, "cancelled", seconds=10)

    assert job.result is None


def test_a_deleted_job_s_late_artifacts_are_swept(stack: Stack) -> None:
    stack.keeper()
    worker = stack.worker()
    job_id = stack.create(seconds=1)
    stack.wait_until_begun(job_id)
    worker.send_signal(signal.SIGSTOP)
    prefix = job_prefix(TENANT, job_id)
    early, late = f"{prefix}1/early.txt", f"{prefix}1/late.txt"
    stack.objects.put(early, b"before the deletion")
    stack.repository.jobs.purge(TENANT, job_id)
    stack.wait(lambda: not list(stack.objects.keys(prefix)), what="the first sweep")
    stack.objects.put(late, b"by a worker that woke up late")
    worker.send_signal(signal.SIGCONT)

    stack.wait(lambda: not list(stack.objects.keys(prefix)), what="the second sweep")

    time.sleep(1)
    assert list(stack.objects.keys(prefix)) == []
    with pytest.raises(ObjectMissingError):
        stack.objects.get(late)
    assert stack.repository.jobs.get(TENANT, job_id) is None
