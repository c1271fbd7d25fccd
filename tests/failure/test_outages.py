"""Broker, database, object store and keeper away for a while: jobs wait and are not lost."""

import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.db.queries import job_prefix
from tests.claiming import claim
from tests.failure.conftest import production_environment
from tests.failure.stack import TENANT, Stack, end
from tests.fixtures.servers import PostgresServer, RedisServer, S3Server

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


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


def forget_messages(stack: Stack) -> None:
    """Do to the embedded broker what a crash does to Redis."""
    for message in (stack.settings.data_dir / "broker" / "messages").glob("*/*"):
        message.unlink()


def test_redis_dead_before_the_doorbell(on_own_redis: Stack, own_redis: RedisServer) -> None:
    stack = on_own_redis
    stack.keeper()
    stack.worker()
    stack.wait_for(stack.create(), "succeeded")
    own_redis.kill()
    job_id = stack.create(ring=False)
    assert not stack.doorbell.ring(job_id, "interactive")

    assert stack.wait_for(job_id, "succeeded", seconds=20).fence == 1, "workers look by themselves"

    own_redis.start()
    assert stack.wait_for(stack.create(), "succeeded").fence == 1


def test_redis_dead_after_the_doorbell_and_while_a_job_runs(
    on_own_redis: Stack, own_redis: RedisServer
) -> None:
    stack = on_own_redis
    stack.keeper()
    unheard = stack.create()
    own_redis.kill()
    own_redis.start()
    stack.worker()
    stack.wait_for(unheard, "succeeded")
    running = stack.create(seconds=2)
    stack.wait_until_begun(running)
    own_redis.kill()

    job = stack.wait_for(running, "succeeded")

    assert (job.fence, job.losses) == (1, 0), "the running job did not need the broker"
    own_redis.start()
    stack.wait_for(stack.create(), "succeeded")


def test_the_embedded_broker_forgets_its_messages(embedded: Stack) -> None:
    before = embedded.create(ring=False)
    after = embedded.create()
    embedded.worker()
    embedded.wait_for(after, "succeeded")
    embedded.wait_for(before, "succeeded")
    another = embedded.create(ring=False)
    forget_messages(embedded)

    embedded.keeper()

    embedded.wait_for(another, "succeeded")


def test_a_message_delivered_many_times_runs_its_job_once(stack: Stack) -> None:
    job_id = stack.create(seconds=0.3)
    for _ in range(4):
        stack.doorbell.ring(job_id, "interactive")
    stack.worker()
    stack.worker()
    stack.wait_for(job_id, "succeeded")
    stack.doorbell.ring(job_id, "interactive")
    last = stack.create()
    stack.wait_for(last, "succeeded")

    assert stack.job(job_id).fence == 1
    assert (stack.count(job_id, "running"), stack.count(job_id, "succeeded")) == (1, 1)


def test_workers_that_race_share_the_jobs(stack: Stack) -> None:
    workers = [stack.worker(BAUTA_BATCH_JOBS="1") for _ in range(3)]
    stack.wait(lambda: stack.tail().count("worker ready") == 3, what="three workers")
    jobs = [stack.create(seconds=0.05) for _ in range(40)]
    for job_id in jobs:
        stack.doorbell.ring(job_id, "interactive")
    ended = [stack.wait_for(job_id, "succeeded") for job_id in jobs]

    assert [job.fence for job in ended] == [1] * 40
    assert [stack.count(job_id, "running") for job_id in jobs] == [1] * 40
    by = {(job.result or {})["process"] for job in ended}
    assert by <= {worker.pid for worker in workers}
    assert len(by) > 1


def test_the_keeper_dead_for_a_while(stack: Stack) -> None:
    keeper = stack.keeper()
    first = stack.worker()
    lost = stack.create(seconds=2)
    stack.wait_until_begun(lost)
    end(keeper)
    end(first)
    stack.worker()
    fresh = stack.create()
    stack.wait_for(fresh, "succeeded")
    time.sleep(2.5)
    assert stack.job(lost).state == "running", "nobody is there to reap it"
    stack.keeper()

    assert stack.wait_for(lost, "succeeded").losses == 1


def test_several_keepers_count_a_loss_once(stack: Stack) -> None:
    for _ in range(3):
        stack.keeper()
    first = stack.worker()
    lost = stack.create(seconds=1)
    stack.wait_until_begun(lost)
    end(first)
    stack.worker()

    job = stack.wait_for(lost, "succeeded")

    assert (job.losses, job.fence) == (1, 2)


def test_postgres_restarted_while_a_job_runs(
    tmp_path: Path, redis_server: RedisServer, s3_server: S3Server
) -> None:
    postgres = PostgresServer()
    stack = None
    try:
        postgres.start()
        stack = Stack(production_environment(tmp_path, redis_server, postgres, s3_server), tmp_path)
        stack.keeper()
        worker = stack.worker(BAUTA_LEASE_SECONDS="10")
        job_id = stack.create(seconds=3)
        stack.wait_until_begun(job_id)
        postgres.restart(immediate=True)
        waiting = stack.create()

        job = stack.wait_for(job_id, "succeeded")

        assert (job.fence, job.losses) == (1, 0)
        stack.wait_for(waiting, "succeeded")
        assert worker.poll() is None
    finally:
        if stack is not None:
            stack.close()
        postgres.remove()


def test_postgres_away_when_a_job_ends(
    tmp_path: Path, redis_server: RedisServer, s3_server: S3Server
) -> None:
    postgres = PostgresServer()
    stack = None
    try:
        postgres.start()
        stack = Stack(production_environment(tmp_path, redis_server, postgres, s3_server), tmp_path)
        stack.keeper()
        stack.worker(BAUTA_LEASE_SECONDS="20")
        job_id = stack.create(seconds=1)
        stack.wait_until_begun(job_id)
        postgres.stop()
        time.sleep(3)
        postgres.start()

        job = stack.wait_for(job_id, "succeeded")

        assert (job.fence, job.losses) == (1, 0)
    finally:
        if stack is not None:
            stack.close()
        postgres.remove()


def test_sqlite_locked_while_a_job_ends(embedded: Stack) -> None:
    embedded.keeper()
    embedded.worker(BAUTA_LEASE_SECONDS="20")
    job_id = embedded.create(seconds=0.5)
    embedded.wait_until_begun(job_id)
    other = sqlite3.connect(str(embedded.settings.database.database), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    time.sleep(2)
    other.execute("ROLLBACK")
    other.close()

    job = embedded.wait_for(job_id, "succeeded")

    assert (job.fence, job.losses) == (1, 0)


def test_the_objects_folder_away_during_an_upload(embedded: Stack) -> None:
    embedded.worker()
    job_id = embedded.create(seconds=1)
    embedded.wait_until_begun(job_id)
    folder = embedded.settings.data_dir / "objects"
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.write_text("not a folder")
    time.sleep(3)
    assert embedded.job(job_id).state == "running", "it keeps trying"
    folder.unlink()
    aside.rename(folder)

    job = embedded.wait_for(job_id, "succeeded")

    assert job.fence == 1
    assert embedded.output(job_id) == f"{job_id} 1".encode()


def test_the_s3_server_dead_during_an_upload(
    tmp_path: Path, redis_server: RedisServer, postgres_server: PostgresServer
) -> None:
    (tmp_path / "s3").mkdir()
    with S3Server(tmp_path / "s3") as s3:
        environment = production_environment(tmp_path, redis_server, postgres_server, s3)
        stack = Stack(environment, tmp_path)
        try:
            stack.worker()
            job_id = stack.create(seconds=1)
            stack.wait_until_begun(job_id)
            s3.kill()
            time.sleep(2)
            s3.start()
            s3.create_bucket(environment["BAUTA_OBJECTS_URL"].removeprefix("s3://"))

            job = stack.wait_for(job_id, "succeeded")

            assert job.fence == 1
            assert stack.output(job_id) == f"{job_id} 1".encode()
        finally:
            stack.close()


def test_the_keeper_reaps_while_the_object_store_is_dead(embedded: Stack) -> None:
    deleted = embedded.create(ring=False)
    embedded.repository.jobs.purge(TENANT, deleted)
    dead = embedded.create(ring=False)
    claim(embedded.repository, dead, owner="dead", lease_seconds=0.2)
    folder = embedded.settings.data_dir / "objects"
    embedded.keeper()
    embedded.wait(lambda: "keeper ready" in embedded.tail())
    shutil.rmtree(folder)
    folder.write_text("not a folder")

    embedded.wait(lambda: embedded.job(dead).losses == 1, what="the reaping")


def test_a_large_result_is_an_artifact(embedded: Stack) -> None:
    embedded.worker()
    job_id = embedded.create(large=True)

    job = embedded.wait_for(job_id, "succeeded")

    assert job.result is not None
    assert job.result["result_artifact"] == "result.json"
    assert "ballast" not in job.result
    stored = embedded.objects.get(job_prefix(TENANT, job_id, 1) + "result.json")
    assert stored.count(b"x") >= 100_000
