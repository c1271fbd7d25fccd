"""The heartbeat, one beat at a time."""

import time

import pytest
from sqlalchemy.exc import OperationalError

from services.worker.runtime.claim import Claim
from services.worker.runtime.heartbeat import EXIT_STUCK
from tests.claiming import claim
from tests.unit.worker.conftest import TENANT, Bench


def hold(bench: Bench, lease_seconds: float = 60) -> Claim:
    job = claim(bench.repository, bench.create(), owner="me", lease_seconds=lease_seconds)
    assert job is not None
    held = Claim.of(job, lease_seconds=lease_seconds)
    bench.heartbeat.hold([held])
    return held


def test_renews_leases_and_hears_of_cancellation(bench: Bench) -> None:
    held = hold(bench, lease_seconds=1)
    before = bench.job(held.job.id).lease_expires_at
    bench.repository.jobs.cancel(TENANT, held.job.id)

    bench.heartbeat._beat_once()

    after = bench.job(held.job.id).lease_expires_at
    assert before is not None
    assert after is not None
    assert after > before + 0.5
    assert held.cancel.is_set()
    assert not held.is_lost


def test_notices_a_job_given_to_another_worker(bench: Bench) -> None:
    held, other = hold(bench), hold(bench)
    bench.repository.jobs.purge(TENANT, held.job.id)

    bench.heartbeat._beat_once()

    assert held.is_lost
    assert not other.is_lost


def test_a_database_outage_longer_than_the_lease_stops_the_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = hold(bench, lease_seconds=0.2)

    def dead(*args: object, **kwargs: object) -> None:
        raise OperationalError("UPDATE", {}, Exception("connection refused"))

    with monkeypatch.context() as patch:
        patch.setattr(bench.repository.claims, "renew", dead)
        bench.heartbeat._beat_once()
        assert not held.is_lost
        time.sleep(0.25)
        assert held.is_lost
    bench.heartbeat._beat_once()
    assert not held.is_lost, "nobody had taken it, so the renewal makes it ours again"


def test_ends_the_process_of_a_job_stuck_past_its_grace_and_saves_the_others(bench: Bench) -> None:
    stuck, other = hold(bench), hold(bench)
    stuck.deadline = time.monotonic() - bench.settings.deadline_grace_seconds - 1

    bench.heartbeat._beat_once()

    assert bench.exits == [EXIT_STUCK]
    assert bench.problem(stuck.job.id) == "deadline-exceeded"
    assert (bench.job(other.job.id).state, bench.job(other.job.id).losses) == ("queued", 0)


def test_within_its_grace_a_job_is_left_to_stop_by_itself(bench: Bench) -> None:
    late = hold(bench)
    late.deadline = time.monotonic() - 1

    bench.heartbeat._beat_once()

    assert bench.exits == []
    assert bench.job(late.job.id).state == "running"


def test_draining_asks_first_and_then_hands_back(bench: Bench) -> None:
    held = hold(bench)
    bench.heartbeat.hand_back_within(0)
    bench.heartbeat._beat_once()
    assert held.hand_back.is_set()
    assert bench.exits == []
    bench.heartbeat.hand_back_within(-100)

    bench.heartbeat._beat_once()

    assert bench.exits == [0]
    assert bench.job(held.job.id).state == "queued"


def test_an_ended_job_s_deadline_no_longer_counts(bench: Bench) -> None:
    held = hold(bench)
    held.deadline = 0.0
    bench.heartbeat.release(held)

    bench.heartbeat._beat_once()

    assert bench.exits == []
