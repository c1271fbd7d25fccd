"""The keeper's queries."""

from collections.abc import Callable

from sqlalchemy import inspect, update

from shared.db import Repository
from shared.db.migrate import downgrade, is_current, upgrade
from shared.db.tables import Base, Image, Job
from tests.unit.db.conftest import HOUR, TENANT, Create, new_image

Claim = Callable[..., Job | None]


def test_a_job_that_waits_longer_than_its_ring_takes_is_overdue(
    repository: Repository, create: Create
) -> None:
    first, second = create(ring_again_seconds=0), create(ring_again_seconds=0)
    create(ring_again_seconds=60)

    assert repository.keeping.overdue("interactive") == [first.id, second.id]
    assert repository.keeping.overdue("batch") == []


def test_does_not_ring_for_what_runs(repository: Repository, create: Create, claim: Claim) -> None:
    job = create(ring_again_seconds=0)
    claim(job.id)

    assert repository.keeping.overdue("interactive") == []


def test_expired_jobs_become_tombstones_and_are_forgotten_later(
    repository: Repository, create: Create, claim: Claim
) -> None:
    photo = new_image()
    repository.images.create(TENANT, photo, retention_seconds=HOUR)
    done, waiting, running = (create(image_ids=(photo.id,), retention_seconds=-1) for _ in range(3))
    kept = create()
    finished = claim(done.id)
    assert finished is not None
    repository.claims.finish(
        done.id, 1, state="succeeded", retention_seconds=-1, result={"secret": 1}
    )
    claim(running.id)

    assert repository.keeping.expire_jobs() == 2

    states = {job.id: job.state for job in repository.jobs.page(TENANT, limit=10)}
    assert states == {
        done.id: "expired",
        waiting.id: "expired",
        running.id: "running",
        kept.id: "queued",
    }
    tombstone = repository.jobs.get(TENANT, done.id)
    assert tombstone is not None
    assert (tombstone.result, tombstone.spec) == (None, None)
    assert repository.keeping.expire_jobs() == 0
    assert repository.keeping.forget_tombstones(older_than_seconds=3600) == 0
    assert repository.keeping.forget_tombstones(older_than_seconds=0) == 2
    assert repository.jobs.get(TENANT, done.id) is None


def test_expired_images_go_unless_a_live_job_reads_them(
    repository: Repository, create: Create
) -> None:
    unused, used = new_image(), new_image()
    repository.images.create(TENANT, used, retention_seconds=HOUR)
    job = create(image_ids=(used.id,))
    with repository.engine.begin() as connection:
        connection.execute(update(Image).where(Image.id == used.id).values(expires_at=1.0))
    repository.images.create(TENANT, unused, retention_seconds=-1)

    assert repository.images.get(TENANT, unused.id) is None, "expired is gone for its owner"
    assert repository.keeping.expire_images() == 1
    prefixes = [sweep.prefix for sweep in repository.keeping.due_sweeps()]
    assert prefixes == [f"{TENANT}/images/{unused.id}/"]
    assert repository.images.of_job(TENANT, job.id)


def test_an_expired_idempotency_key_may_be_used_anew(
    repository: Repository, create: Create
) -> None:
    first = create(idempotency_key="k", fingerprint="a", retention_seconds=0.05)
    deadline_passed = repository.keeping.expire_idempotency_keys
    while deadline_passed() == 0:
        pass

    assert create(idempotency_key="k", fingerprint="b").id != first.id


def test_each_prefix_is_swept_twice_even_by_two_keepers(
    repository: Repository, create: Create
) -> None:
    job = create()
    repository.jobs.purge(TENANT, job.id)
    mine, theirs = repository.keeping.due_sweeps(), repository.keeping.due_sweeps()
    assert len(mine) == 2  # the job's objects and its image's

    for sweep in (*mine, *theirs):
        repository.keeping.swept(sweep, again_after_seconds=-1)

    again = repository.keeping.due_sweeps()
    assert [sweep.prefix for sweep in again] == [sweep.prefix for sweep in mine]
    for sweep in again:
        repository.keeping.swept(sweep, again_after_seconds=-1)
    assert repository.keeping.due_sweeps() == []


def test_migrations_lead_to_the_tables_of_the_code_and_back(repository: Repository) -> None:
    assert is_current(repository.engine)
    upgrade(repository.engine)  # a second time does nothing
    found = inspect(repository.engine)
    for table in Base.metadata.sorted_tables:
        columns = {column["name"] for column in found.get_columns(table.name)}
        assert columns == set(table.columns.keys())
        assert "tenant_id" in columns

    downgrade(repository.engine, "base")

    assert set(inspect(repository.engine).get_table_names()) <= {"alembic_version"}
    assert not is_current(repository.engine)
