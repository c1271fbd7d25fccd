"""Queries on registered models and data sets."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from shared.db import Repository
from shared.db.datasets import NewDataset
from shared.db.models import NewModel
from shared.db.queries import dataset_prefix, model_prefix, new_id
from shared.db.tables import Dataset, Job, Model, Sweep
from shared.problems import Problem
from shared.specs import JobSpec
from shared.specs.evaluate import EvaluateSpec
from tests.unit.db.conftest import HOUR, TENANT, Create

Claim = Callable[..., Job | None]


class ReaderSpec(JobSpec):
    """A spec that reads a data set."""

    summary: ClassVar[str] = "Read a data set"
    kind: Literal["reader"] = "reader"
    dataset: str

    @property
    def dataset_ids(self) -> tuple[str, ...]:
        return (self.dataset,)


def a_reader(dataset_id: str) -> JobSpec:
    """Return a spec, of a kind that exists, that reads a data set."""
    return EvaluateSpec.model_validate({"data": {"dataset": dataset_id}, "models": ["m"]})


@pytest.fixture
def held(create: Create, claim: Claim) -> Job:
    """A job that makes things."""
    job = claim(create().id)
    assert job is not None
    return job


def save_dataset(repository: Repository, job: Job, **fields: Any) -> Dataset | None:
    dataset_id = new_id("ds")
    prefix = dataset_prefix(TENANT, dataset_id)
    new = NewDataset(
        **{
            "id": dataset_id,
            "name": "faces",
            "layout": "classes",
            "classes": ("a", "b"),
            "summary": {"counts": {}},
            "images": 3,
            "size": 10,
            "sha256": "0" * 64,
            "object_key": prefix + "pack.zip",
            "sweep_id": repository.datasets.announce_prefix(TENANT, prefix, within_seconds=HOUR),
            **fields,
        }
    )
    return repository.datasets.create(TENANT, new, job_id=job.id, fence=job.fence)


def save_model(
    repository: Repository,
    job: Job,
    model_id: str = "mine",
    fence: int | None = None,
    keep_seconds: float | None = None,
) -> Model | None:
    prefix = model_prefix(TENANT, new_id("weights"))
    new = NewModel(
        id=model_id,
        task="mask",
        card={"id": model_id},
        size=10,
        sha256="0" * 64,
        object_key=prefix + "model.safetensors",
        sweep_id=repository.models.announce_prefix(TENANT, prefix, within_seconds=HOUR),
        keep_seconds=keep_seconds,
    )
    return repository.models.create(
        TENANT, new, job_id=job.id, fence=job.fence if fence is None else fence
    )


def sweeps(repository: Repository) -> list[str]:
    with Session(repository.engine) as session:
        return sorted(session.scalars(select(Sweep.prefix)))


def test_a_data_set_is_listed_read_and_deleted_by_its_owner_alone(
    repository: Repository, held: Job
) -> None:
    made = save_dataset(repository, held)
    assert made is not None
    assert sweeps(repository) == []

    assert repository.datasets.get("other", made.id) is None
    assert repository.datasets.page("other", limit=10) == []
    assert not repository.datasets.delete("other", made.id)
    found = repository.datasets.get(TENANT, made.id)
    assert found is not None
    assert found.classes == ["a", "b"]
    assert [row.id for row in repository.datasets.page(TENANT, limit=10)] == [made.id]

    assert repository.datasets.delete(TENANT, made.id)
    assert repository.datasets.get(TENANT, made.id) is None
    assert sweeps(repository) == [dataset_prefix(TENANT, made.id)]


def test_pages_go_on_where_the_last_one_ended(
    repository: Repository, create: Create, claim: Claim
) -> None:
    made = []
    for _ in range(3):
        job = claim(create().id)
        assert job is not None
        row = save_dataset(repository, job)
        assert row is not None
        made.append(row)

    newest, middle = repository.datasets.page(TENANT, limit=2)
    rest = repository.datasets.page(TENANT, limit=2, before=(middle.created_at, middle.id))

    assert [row.id for row in (newest, middle, *rest)] == [row.id for row in reversed(made)]


def test_a_lost_claim_registers_nothing_and_its_bytes_are_swept(
    repository: Repository, held: Job
) -> None:
    held.fence += 1
    assert save_dataset(repository, held) is None
    assert save_model(repository, held) is None
    assert len(sweeps(repository)) == 2


def test_only_what_the_last_claim_of_a_job_made_is_kept(repository: Repository, held: Job) -> None:
    first, second = save_dataset(repository, held), save_dataset(repository, held)
    assert first is not None
    assert second is not None
    assert [row.id for row in repository.datasets.page(TENANT, limit=10)] == [second.id]
    assert sweeps(repository) == [dataset_prefix(TENANT, first.id)]

    one, two = save_model(repository, held), save_model(repository, held)
    assert one is not None
    assert two is not None
    assert [row.object_key for row in repository.models.all(TENANT)] == [two.object_key]
    assert one.object_key.removesuffix("model.safetensors") in sweeps(repository)


def test_a_model_of_another_job_is_not_replaced(
    repository: Repository, held: Job, create: Create, claim: Claim
) -> None:
    save_model(repository, held)
    other = claim(create().id)
    assert other is not None

    with pytest.raises(Problem, match="There is a model 'mine' already"):
        save_model(repository, other)


def test_the_default_of_a_task_is_the_tenants_choice(repository: Repository, held: Job) -> None:
    save_model(repository, held, "one")
    save_model(repository, held, "two")
    assert repository.models.default(TENANT, "mask") is None

    for name in ("one", "two", "two"):
        assert repository.models.set_default(TENANT, "mask", name)
        chosen = repository.models.default(TENANT, "mask")
        assert chosen is not None
        assert chosen.id == name
    assert not repository.models.set_default(TENANT, "mask3", "one")
    assert not repository.models.set_default("other", "mask", "one")
    assert repository.models.default("other", "mask") is None
    assert repository.models.set_default(TENANT, "mask", None)
    assert repository.models.default(TENANT, "mask") is None


def test_what_a_live_job_names_stays(
    repository: Repository, held: Job, create: Create, claim: Claim
) -> None:
    save_model(repository, held)
    job = create(model="mine")

    with pytest.raises(Problem, match=f"Job {job.id} still uses this model") as caught:
        repository.models.delete(TENANT, "mine")
    assert caught.value.slug == "model-in-use"

    repository.jobs.cancel(TENANT, job.id)
    assert repository.models.delete(TENANT, "mine")
    assert repository.models.get(TENANT, "mine") is None
    assert not repository.models.delete(TENANT, "mine")


def test_a_job_on_a_data_set_needs_it_to_be_there(
    repository: Repository, held: Job, create: Create
) -> None:
    made = save_dataset(repository, held, keep_seconds=HOUR)
    assert made is not None
    spec = ReaderSpec(dataset=made.id)
    create(images=[], spec=spec)

    with pytest.raises(Problem, match=made.id) as caught:
        create(tenant_id="other", images=[], spec=spec)
    assert caught.value.slug == "unknown-dataset"
    save_dataset(repository, held)  # takes the place of the first
    with pytest.raises(Problem, match=made.id):
        create(images=[], spec=spec)


def test_a_job_with_a_model_needs_it_to_be_there(
    repository: Repository, held: Job, create: Create
) -> None:
    save_model(repository, held)
    create(model="mine", shipped_models=())
    create(model="shipped", shipped_models=("shipped",))

    for tenant, name in ((TENANT, "shipped"), ("other", "mine")):
        with pytest.raises(Problem, match=f"no model {name}") as caught:
            create(tenant_id=tenant, model=name, shipped_models=())
        assert caught.value.slug == "unknown-model"
    repository.models.delete("other", "mine")
    create(model="mine", shipped_models=(), idempotency_key="k", fingerprint="f")


def test_expired_data_sets_go_with_their_bytes(repository: Repository, held: Job) -> None:
    made = save_dataset(repository, held, keep_seconds=-1.0)
    assert made is not None

    assert repository.keeping.expire_datasets() == 1
    assert repository.keeping.expire_datasets() == 0
    assert dataset_prefix(TENANT, made.id) in sweeps(repository)


def test_expired_models_go_with_their_bytes(repository: Repository, held: Job) -> None:
    made = save_model(repository, held, keep_seconds=-1.0)
    assert made is not None

    assert repository.models.get(TENANT, "mine") is None
    assert repository.models.all(TENANT) == []
    assert repository.keeping.expire_models() == 1
    assert repository.keeping.expire_models() == 0
    assert made.object_key.removesuffix("model.safetensors") in sweeps(repository)


def test_what_expires_while_a_job_uses_it_is_there_for_that_job_alone(
    repository: Repository, held: Job, create: Create
) -> None:
    model = save_model(repository, held, keep_seconds=HOUR)
    dataset = save_dataset(repository, held, keep_seconds=HOUR)
    assert model is not None
    assert dataset is not None
    jobs = (
        create(model="mine", shipped_models=()),
        create(images=[], spec=a_reader(dataset.id)),
    )
    with repository.engine.begin() as connection:
        connection.execute(update(Model).values(expires_at=1.0))
        connection.execute(update(Dataset).values(expires_at=1.0))

    assert (repository.keeping.expire_models(), repository.keeping.expire_datasets()) == (0, 0)
    assert repository.models.get(TENANT, "mine", past=True) is not None
    assert repository.datasets.get(TENANT, dataset.id, past=True) is not None
    with pytest.raises(Problem, match="no model mine"):
        create(model="mine", shipped_models=())
    for job in jobs:
        repository.jobs.cancel(TENANT, job.id)
    assert (repository.keeping.expire_models(), repository.keeping.expire_datasets()) == (1, 1)


def test_what_is_kept_does_not_expire(repository: Repository, held: Job) -> None:
    save_model(repository, held, keep_seconds=HOUR)
    made = save_dataset(repository, held, keep_seconds=HOUR)
    assert made is not None

    for seconds, expires in ((None, False), (HOUR, True)):
        model = repository.models.keep(TENANT, "mine", seconds=seconds)
        dataset = repository.datasets.keep(TENANT, made.id, seconds=seconds)
        assert model is not None
        assert dataset is not None
        assert (model.expires_at is not None) is expires
        assert (dataset.expires_at is not None) is expires
    assert repository.models.keep("other", "mine", seconds=None) is None
    assert repository.datasets.keep("other", made.id, seconds=None) is None


def test_a_default_model_is_kept(repository: Repository, held: Job) -> None:
    save_model(repository, held, keep_seconds=HOUR)

    assert repository.models.set_default(TENANT, "mask", "mine")
    still = repository.models.keep(TENANT, "mine", seconds=-1.0)

    assert still is not None
    assert still.expires_at is None
    assert repository.models.set_default(TENANT, "mask", None)
    let_go = repository.models.keep(TENANT, "mine", seconds=-1.0)
    assert let_go is not None
    assert repository.keeping.expire_models() == 1
