"""A repository on SQLite and on Postgres: every test of it runs on both."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from sqlalchemy.engine import make_url

from shared.db import Repository, create_database_engine
from shared.db.images import NewImage
from shared.db.jobs import NewJob
from shared.db.migrate import upgrade
from shared.db.queries import image_prefix, new_id
from shared.db.tables import Job
from shared.specs import JobSpec
from shared.specs.classify import ClassifySpec
from tests.claiming import claim as claim_job

TENANT = "acme"
HOUR = 3600.0


class Create(Protocol):
    """Creates a queued classify job; returns its row."""

    def __call__(self, **options: Any) -> Job: ...


@pytest.fixture(params=["sqlite", "postgres"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Repository]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'bauta.db'}"
    else:
        url = request.getfixturevalue("fresh_database")
    engine = create_database_engine(make_url(url), pool_size=10)
    upgrade(engine)
    yield Repository(engine)
    engine.dispose()


def new_image(tenant_id: str = TENANT) -> NewImage:
    """Return an image that could have been uploaded."""
    image_id = new_id("img")
    return NewImage(
        id=image_id,
        media_type="image/jpeg",
        width=4,
        height=3,
        orientation=1,
        size=10,
        sha256="0" * 64,
        object_key=image_prefix(tenant_id, image_id) + "content",
    )


@pytest.fixture
def create(repository: Repository) -> Create:
    """Creates jobs."""

    def make(
        *,
        tenant_id: str = TENANT,
        images: list[NewImage] | None = None,
        image_ids: tuple[str, ...] = (),
        retention_seconds: float = HOUR,
        max_queued: int = 1000,
        ring_again_seconds: float = 3.0,
        model: str | None = None,
        spec: JobSpec | None = None,
        **new: Any,
    ) -> Job:
        own = [new_image(tenant_id)] if images is None and not image_ids else images or []
        names = tuple(image.id for image in own) + image_ids
        spec = spec or ClassifySpec(images=names, model=model)
        job, _ = repository.jobs.create(
            NewJob(
                id=new_id("job"),
                tenant_id=tenant_id,
                spec=spec,
                images=own,
                **{"shipped_models": spec.model_ids, **new},
            ),
            max_queued=max_queued,
            retention_seconds=retention_seconds,
            ring_again_seconds=ring_again_seconds,
        )
        return job

    return make


@pytest.fixture
def claim(repository: Repository) -> Callable[..., Job | None]:
    """Claims a job (or the oldest)."""

    def take(job_id: str | None = None, **options: Any) -> Job | None:
        return claim_job(repository, job_id or "", **options)

    return take
