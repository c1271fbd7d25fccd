"""What the watcher hears of the database."""

import time

from sqlalchemy.engine import make_url

from services.api.change_sources import PostgresSource
from shared.db import Repository, create_database_engine
from shared.db.jobs import NewJob
from shared.db.migrate import upgrade
from shared.db.queries import new_id
from shared.specs.classify import ClassifySpec
from tests.claiming import claim
from tests.unit.db.conftest import TENANT, new_image


def test_postgres_says_what_happened_to_which_job(fresh_database: str) -> None:
    repository = Repository(create_database_engine(make_url(fresh_database)))
    upgrade(repository.engine)
    source = PostgresSource(repository)
    heard: list[tuple[str, int, str]] = []

    def hear(*, matter: str) -> bool:
        """Hear what was committed; whether an event of this name was among it."""

        def told(job_id: str, seq: int, event: str) -> bool:
            heard.append((job_id, seq, event))
            return event == matter

        return source.changed(told)

    def wait_for(matter: str) -> None:
        """Notifications of one commit may come one by one."""
        give_up = time.monotonic() + 20
        while not hear(matter=matter):
            assert time.monotonic() < give_up, heard

    try:
        assert not hear(matter="queued")  # nothing was committed yet
        job_id, photo = new_id("job"), new_image()
        spec = ClassifySpec.model_validate({"images": [photo.id]})
        repository.jobs.create(
            NewJob(id=job_id, tenant_id=TENANT, spec=spec, images=[photo]),
            max_queued=10,
            retention_seconds=60,
            ring_again_seconds=1,
        )
        wait_for("queued")
        claims = repository.claims
        job = claim(repository, job_id)
        assert job is not None
        claims.progress(job_id, job.fence, {"done": 0, "total": 2})
        assert not hear(matter="succeeded")
        claims.finish(job_id, job.fence, state="succeeded", retention_seconds=60, result={})
        wait_for("succeeded")
        repository.jobs.purge(TENANT, job_id)
        wait_for("succeeded")  # a tombstone keeps the job's end
        events = ["queued", "running", "progress", "succeeded", "succeeded"]
        assert heard == [(job_id, seq, event) for seq, event in enumerate(events, 1)]
    finally:
        source.close()
        repository.engine.dispose()


def test_other_words_are_news_of_anything(fresh_database: str) -> None:
    repository = Repository(create_database_engine(make_url(fresh_database)))
    source = PostgresSource(repository)
    try:
        with repository.engine.begin() as connection:
            connection.exec_driver_sql("SELECT pg_notify('bauta_jobs', 'job_1')")
        assert source.changed(lambda *_: False)
        began = time.monotonic()
        source.interrupt()
        assert not source.changed(lambda *_: True)
        assert time.monotonic() - began < 0.9
    finally:
        source.close()
        repository.engine.dispose()
