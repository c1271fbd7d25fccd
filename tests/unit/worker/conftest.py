"""A worker's parts in this process: an engine on SQLite that runs jobs of the tests' own."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.worker.runtime.cache import ModelCache
from services.worker.runtime.context import JobContext, Services
from services.worker.runtime.engine import Engine
from services.worker.runtime.heartbeat import Heartbeat
from shared.db import Repository, create_database_engine
from shared.db.images import NewImage
from shared.db.jobs import NewJob
from shared.db.migrate import upgrade
from shared.db.queries import image_prefix, new_id
from shared.db.tables import Job
from shared.objects import ObjectStore
from shared.results import Timing
from shared.results.classify import ClassifyResult
from shared.settings import Settings
from shared.specs.classify import ClassifySpec

TENANT = "acme"


def a_result(**fields: Any) -> ClassifyResult:
    """Return a result of no faces."""
    return ClassifyResult.model_validate(
        {
            "parameters": {},
            "models": [],
            "device": "none",
            "versions": {},
            "timing": Timing(total=0.0),
            "images": [],
            "counts": {},
            **fields,
        }
    )


class Bell:
    """A doorbell that remembers its rings."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self, job_id: str, queue: str) -> bool:
        self.rung.append(job_id)
        return True

    def take_back(self, job_ids: Iterable[str], queue: str) -> None:
        self.rung = [job_id for job_id in self.rung if job_id not in set(job_ids)]


@dataclass
class Bench:
    """One worker's parts; ``run`` and ``run_batch`` stand for a job module."""

    settings: Settings
    repository: Repository
    objects: ObjectStore
    bell: Bell = field(default_factory=Bell)
    exits: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.services = Services(
            settings=self.settings,
            repository=self.repository,
            objects=self.objects,
            models=ModelCache(1000),
            device=cast(Any, "none"),
        )
        self.heartbeat = Heartbeat(
            self.repository, self.settings, owner="me", exit_process=self.exits.append
        )

    def engine(
        self,
        run: Callable[..., Any],
        run_batch: Callable[..., Any] | None = None,
        *,
        supervised: bool = False,
    ) -> Engine:
        """Build an engine whose only job module is this."""
        module = SimpleNamespace(run=run)
        if run_batch is not None:
            module.run_batch = run_batch
        return Engine(
            self.services,
            self.heartbeat,
            cast(Any, self.bell),
            owner="me",
            find_module=lambda kind: cast(Any, module),
            supervised=supervised,
        )

    def create(self, image: bytes = b"", *, photos: int = 1, **spec: Any) -> str:
        """Queue a classify job on stored images."""
        stored = []
        for _ in range(photos):
            image_id = new_id("img")
            key = image_prefix(TENANT, image_id) + "content"
            self.objects.put(key, image)
            stored.append(
                NewImage(
                    id=image_id,
                    media_type="image/png",
                    width=1,
                    height=1,
                    orientation=1,
                    size=len(image),
                    sha256="0" * 64,
                    object_key=key,
                )
            )
        parsed = ClassifySpec.model_validate({"images": [new.id for new in stored], **spec})
        job, _ = self.repository.jobs.create(
            NewJob(
                id=new_id("job"),
                tenant_id=TENANT,
                spec=parsed,
                images=stored,
                shipped_models=parsed.model_ids,
            ),
            max_queued=1000,
            retention_seconds=3600,
            ring_again_seconds=1,
        )
        return job.id

    def job(self, job_id: str) -> Job:
        """Return the row as it is now."""
        job = self.repository.jobs.get(TENANT, job_id)
        assert job is not None
        return job

    def problem(self, job_id: str) -> str:
        """Return the type of the failed job's problem."""
        job = self.job(job_id)
        assert job.state == "failed"
        assert job.problem is not None
        return str(job.problem["type"]).removeprefix("/problems/")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A fresh deployment on SQLite."""
    settings = Settings(data_dir=tmp_path, lease_seconds=2, heartbeat_seconds=0.05)
    engine = create_database_engine(settings.database)
    upgrade(engine)
    yield Bench(settings, Repository(engine), ObjectStore.from_settings(settings))
    engine.dispose()


__all__ = ["TENANT", "Bench", "JobContext", "a_result"]
