"""A worker that freezes inside a transaction keeps nobody from its job for long."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from shared.db import Repository, create_database_engine
from shared.db import engine as engines
from shared.db.jobs import NewJob
from shared.db.migrate import upgrade
from shared.db.queries import new_id
from shared.specs.classify import ClassifySpec
from tests.claiming import claim
from tests.fixtures.process import wait_until

pytestmark = pytest.mark.integration
TENANT = "acme"

# Locks a job's row and stays inside its transaction, as a worker does that is stopped there.
HOLDER = """
import sys, time
from sqlalchemy import text
from sqlalchemy.engine import make_url
from shared.db import create_database_engine, engine
engine.IDLE_IN_TRANSACTION_SECONDS = 2
with create_database_engine(make_url(sys.argv[1])).begin() as connection:
    connection.execute(text("UPDATE jobs SET event_seq = event_seq WHERE id = :id"),
                       {"id": sys.argv[2]})
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def repository(fresh_database: str) -> Iterator[Repository]:
    engine = create_database_engine(make_url(fresh_database))
    upgrade(engine)
    yield Repository(engine)
    engine.dispose()


@pytest.fixture
def frozen(repository: Repository, fresh_database: str) -> Iterator[str]:
    """The id of a claimed job whose row a stopped process has locked."""
    new = NewJob(id=new_id("job"), tenant_id=TENANT, spec=ClassifySpec(images=(new_id("img"),)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(repository.jobs), "_refuse_unknown_images", lambda *rest: None)
        repository.jobs.create(new, max_queued=9, retention_seconds=600, ring_again_seconds=600)
    claim(repository, new.id, lease_seconds=-1)
    command = [sys.executable, "-c", HOLDER, fresh_database, new.id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        os.kill(holder.pid, signal.SIGSTOP)
        yield new.id
        holder.kill()


def reap(repository: Repository) -> list[str]:
    keeping = repository.keeping
    reaped = keeping.reap(max_losses=3, retention_seconds=600, ring_again_seconds=600)
    return [job.state for job in reaped]


def test_its_job_is_reaped_although_its_row_was_locked(repository: Repository, frozen: str) -> None:
    assert reap(repository) == [], "locked: skipped for now"

    wait_until(lambda: reap(repository) == ["queued"], what="the server to end the transaction")


@pytest.mark.parametrize("what", ["cancel", "delete"])
def test_its_job_can_be_cancelled_and_deleted(
    repository: Repository, frozen: str, what: str
) -> None:
    ask = repository.jobs.cancel if what == "cancel" else repository.jobs.purge

    assert ask(TENANT, frozen), "it waits for the lock, and the lock is gone before it gives up"


def test_sessions_have_the_times_that_make_it_so(repository: Repository) -> None:
    with repository.engine.connect() as connection:
        shown = {
            name: connection.execute(text(f"SHOW {name}")).scalar_one()
            for name in (
                "idle_in_transaction_session_timeout",
                "lock_timeout",
                "statement_timeout",
                "tcp_keepalives_idle",
                "tcp_keepalives_count",
            )
        }
    assert shown == {
        "idle_in_transaction_session_timeout": "5s",
        "lock_timeout": "10s",
        "statement_timeout": "20s",
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_count": "3",
    }
    assert engines.IDLE_IN_TRANSACTION_SECONDS < engines.LOCK_SECONDS < engines.STATEMENT_SECONDS
