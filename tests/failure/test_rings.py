"""Rings that cannot be read, that nobody hears, and that no broker carries."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from shared.db.queries import new_id
from tests.failure.conftest import production_environment
from tests.failure.stack import Stack
from tests.fixtures.servers import PostgresServer, RedisServer, S3Server

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

GARBAGE = [
    b"",
    b"{",
    new_id("job")[:-3].encode(),
    os.urandom(100),
    b'{"body": "e30=", "headers": {}}',
]


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that the test may kill."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with RedisServer(folder) as server:
        yield server


@pytest.fixture
def on_own_redis(
    tmp_path: Path, own_redis: RedisServer, postgres_server: PostgresServer, s3_server: S3Server
) -> Iterator[Stack]:
    stack = Stack(production_environment(tmp_path, own_redis, postgres_server, s3_server), tmp_path)
    yield stack
    stack.close()


def spoil(stack: Stack) -> None:
    """Put all garbage into both queues."""
    for queue in ("interactive", "batch"):
        for data in GARBAGE:
            if stack.settings.broker.startswith("redis"):
                with Redis.from_url(stack.settings.broker) as client:
                    client.rpush(queue, data)
            else:
                messages = stack.settings.data_dir / "broker" / "messages"
                (messages / queue / f"{new_id('x')}.msg").write_bytes(data)


def test_unreadable_messages_cost_no_worker_and_no_job(stack: Stack) -> None:
    before = stack.doorbell.unreadable()
    worker = stack.worker()
    stack.wait_for(stack.create(), "succeeded")
    jobs = []
    for _ in range(3):
        spoil(stack)
        jobs.append(stack.create())
    spoil(stack)

    for job_id in jobs:
        assert stack.wait_for(job_id, "succeeded").losses == 0
    wrong = 4 * 2 * len(GARBAGE)
    stack.wait(lambda: stack.doorbell.unreadable() >= before + wrong, what="all to be set aside")
    assert worker.poll() is None
    assert "Unrecoverable" not in stack.tail()


def test_thousands_of_jobs_that_nobody_takes_have_a_ring_each(embedded: Stack) -> None:
    count = 3000
    for _ in range(count):
        embedded.create()
    assert embedded.doorbell.depth("interactive") == count
    keeper = embedded.keeper()
    time.sleep(5)  # twenty-five rounds, all jobs overdue

    assert embedded.doorbell.depth("interactive") == count
    keeper.kill()


def test_rings_of_jobs_that_were_taken_are_taken_back(embedded: Stack) -> None:
    jobs = [embedded.create(family="alike") for _ in range(300)]
    keeper = embedded.keeper()
    embedded.worker(BAUTA_BATCH_JOBS="8")
    for job_id in jobs:
        assert embedded.wait_for(job_id, "succeeded", seconds=120).fence == 1

    embedded.wait(lambda: embedded.doorbell.depth("interactive") == 0, seconds=2)
    assert keeper.poll() is None


def test_workers_work_without_a_broker(on_own_redis: Stack, own_redis: RedisServer) -> None:
    stack = on_own_redis
    worker = stack.worker()
    stack.wait_for(stack.create(), "succeeded")
    own_redis.kill()

    for _ in range(3):
        stack.wait_for(stack.create(), "succeeded", seconds=20)

    assert worker.poll() is None
    own_redis.start()
    stack.wait(lambda: "the broker answers again" in stack.tail(), what="the worker to reconnect")
    stack.wait_for(stack.create(), "succeeded")


def test_workers_start_and_work_without_a_broker(
    on_own_redis: Stack, own_redis: RedisServer
) -> None:
    own_redis.kill()
    on_own_redis.worker()
    on_own_redis.wait(lambda: "worker ready" in on_own_redis.tail(), what="the worker")

    on_own_redis.wait_for(on_own_redis.create(), "succeeded", seconds=20)


def test_workers_work_while_the_broker_is_frozen(
    on_own_redis: Stack, own_redis: RedisServer
) -> None:
    on_own_redis.worker()
    on_own_redis.wait_for(on_own_redis.create(), "succeeded")
    own_redis.pause()

    on_own_redis.wait_for(on_own_redis.create(ring=False), "succeeded", seconds=30)

    own_redis.resume()
    on_own_redis.wait_for(on_own_redis.create(), "succeeded")
