"""How long jobs take to end after faults: ``python -m benchmarks.recovery``.

Jobs of a fifth of a second arrive while Redis is killed, away for up to eight seconds and started
again, and every session of Postgres is ended, in turn. Printed: how long after the last fault the
jobs that were left ended.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from sqlalchemy import text

from shared.db import OUTAGES, create_database_engine
from shared.db.tables import Job
from tests.failure.stack import PACE, Stack
from tests.fixtures.servers import PostgresServer, RedisServer

T = TypeVar("T")
FAULTS = 27
PAUSE_SECONDS = 2.0
AWAY_SECONDS = 8.0
JOBS_A_FAULT = 4
GIVE_UP_SECONDS = 500.0
ENDED = ("succeeded", "failed")
DEFAULTS = {  # as the service ships, not as its tests are paced
    "BAUTA_LEASE_SECONDS": "15",
    "BAUTA_HEARTBEAT_SECONDS": "3",
    "BAUTA_KEEPER_SECONDS": "1",
    "BAUTA_RING_AGAIN_SECONDS": "3",
    "BAUTA_MAX_DEADLINE_SECONDS": "600",
    "BAUTA_BATCH_JOBS": "1",
}


def end_sessions(stack: Stack) -> None:
    """End all sessions of the database but our own."""
    engine = create_database_engine(stack.settings.database, pool_size=1)
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    engine.dispose()


def patiently(do: Callable[[], T]) -> T:
    """Do what our own faults may meet, again and again until it is done."""
    while True:
        try:
            return do()
        except OUTAGES:
            time.sleep(0.2)


def trial(folder: Path, *, faults: int, workers: int) -> None:
    """Run one trial and print its figures."""
    dice = random.Random(1)
    (folder / "redis").mkdir()
    postgres = PostgresServer().start()
    redis = RedisServer(folder / "redis").start()
    url = postgres.create_database("recovery")
    environment = {
        "BAUTA_DATA_DIR": str(folder / "data"),
        "BAUTA_BROKER_URL": redis.url,
        "BAUTA_DATABASE_URL": url,
    }
    PACE.update(DEFAULTS)
    stack = Stack(environment, folder)
    try:
        stack.keeper()
        for _ in range(workers):
            stack.worker()
        stack.wait(lambda: stack.tail().count("worker ready") == workers, seconds=120)
        jobs: list[str] = []
        created: dict[str, float] = {}

        def create_some() -> None:
            for _ in range(JOBS_A_FAULT):
                job_id = patiently(partial(stack.create, seconds=0.2))
                jobs.append(job_id)
                created[job_id] = time.time()

        for number in range(faults):
            create_some()
            time.sleep(dice.uniform(0.2, PAUSE_SECONDS))
            if number % 2:
                end_sessions(stack)
            else:
                redis.kill()
                create_some()
                time.sleep(dice.uniform(0, AWAY_SECONDS))
                redis.start()
        last = time.time()
        ended: dict[str, float] = {}
        while len(ended) < len(jobs) and time.time() < last + GIVE_UP_SECONDS:
            for job_id in jobs:
                if job_id not in ended:
                    job: Job = patiently(partial(stack.job, job_id))
                    if job.state in ENDED:
                        ended[job_id] = job.finished_at or time.time()
            time.sleep(0.2)
        took = sorted(ended[job_id] - created[job_id] for job_id in ended)
        late = [at - last for at in ended.values() if at > last]
        print(
            f"{faults} faults, {len(jobs)} jobs, {len(ended)} ended; left at the last fault: "
            f"{len(jobs) - len(ended) + len(late)}\n"
            f"seconds from creation to end: median {statistics.median(took):.1f}, "
            f"max {took[-1]:.1f}\n"
            f"seconds from the last fault to the end of the last job: {max(late, default=0):.1f}",
            flush=True,
        )
    finally:
        stack.close()
        redis.stop()
        postgres.remove()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=FAULTS)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with TemporaryDirectory() as temporary:
        trial(Path(temporary), faults=arguments.faults, workers=arguments.workers)


if __name__ == "__main__":
    main()
