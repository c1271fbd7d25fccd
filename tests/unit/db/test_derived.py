"""What was made of an image or a data set goes when that is deleted."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.db import Repository
from shared.db.claims import NewArtifact
from shared.db.queries import job_prefix
from shared.db.tables import Job, Sweep
from shared.problems import Problem
from shared.specs.classify import ClassifySpec
from shared.specs.evaluate import EvaluateSpec
from tests.unit.db.conftest import HOUR, TENANT, Create, new_image
from tests.unit.db.test_models_and_datasets import save_dataset

Claim = Callable[..., Job | None]


def end(repository: Repository, job: Job, made_of: dict[str, str | None], **how: Any) -> None:
    """Finish a claimed job with artifacts, by the image that each was made of."""
    rows = [
        NewArtifact(
            name=name,
            media_type="image/jpeg",
            size=3,
            sha256="0" * 64,
            object_key=job_prefix(job.tenant_id, job.id, job.fence) + name,
            image_id=image_id,
        )
        for name, image_id in made_of.items()
    ]
    outcome = {"state": "succeeded", "result": {"faces": 3}, **how}
    assert repository.claims.finish(
        job.id, job.fence, retention_seconds=HOUR, artifacts=rows, **outcome
    )


def names(repository: Repository, job: Job) -> list[str]:
    return [row.name for row in repository.jobs.artifacts(TENANT, job.id)]


def swept(repository: Repository) -> set[str]:
    with Session(repository.engine) as session:
        return set(session.scalars(select(Sweep.prefix)))


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_what_was_made_of_an_image_goes_with_it_whatever_the_jobs_end(
    repository: Repository, create: Create, claim: Claim, state: str
) -> None:
    mine, other = new_image(), new_image()
    for image in (mine, other):
        repository.images.create(TENANT, image, retention_seconds=HOUR)
    job = claim(create(image_ids=(mine.id, other.id)).id)
    assert job is not None
    of = {"a.jpg": mine.id, "b.jpg": other.id, "both.jpg": None, "result.json": None}
    end(repository, job, of, state=state)
    before = repository.jobs.get(TENANT, job.id)
    assert before is not None

    assert repository.images.delete(TENANT, mine.id)

    assert names(repository, job) == ["b.jpg", "result.json"]
    prefix = job_prefix(TENANT, job.id, job.fence)
    assert {prefix + "a.jpg", prefix + "both.jpg"} <= swept(repository)
    assert not {prefix + "b.jpg", prefix, job_prefix(TENANT, job.id)} & swept(repository)
    after = repository.jobs.get(TENANT, job.id)
    assert after is not None
    assert (after.state, after.result) == (state, before.result), "its figures stay"
    assert after.event_seq == before.event_seq + 1, "who knew it before sees that it changed"
    last = repository.jobs.events_after(TENANT, job.id, before.event_seq)[-1]
    assert last.type == "artifacts-deleted"
    assert last.data == {"image": mine.id, "artifacts": ["a.jpg", "both.jpg"]}


def test_jobs_of_other_images_and_other_tenants_keep_theirs(
    repository: Repository, create: Create, claim: Claim
) -> None:
    mine, other = new_image(), new_image()
    for image in (mine, other):
        repository.images.create(TENANT, image, retention_seconds=HOUR)
    job = claim(create(image_ids=(other.id,)).id)
    assert job is not None
    end(repository, job, {"a.jpg": None})

    assert not repository.images.delete("other", other.id)
    assert repository.images.delete(TENANT, mine.id)

    assert names(repository, job) == ["a.jpg"]


def test_events_that_may_show_a_picture_go_those_of_its_states_stay(
    repository: Repository, create: Create, claim: Claim
) -> None:
    image = new_image()
    repository.images.create(TENANT, image, retention_seconds=HOUR)
    job = claim(create(image_ids=(image.id,)).id)
    assert job is not None
    repository.claims.progress(job.id, job.fence, {"done": 1, "total": 2})
    repository.claims.event(job.id, job.fence, "designs", {"picture": "data:image/jpeg;base64,"})
    end(repository, job, {"design.png": None})

    repository.images.delete(TENANT, image.id)

    kinds = [event.type for event in repository.jobs.events_after(TENANT, job.id, 0)]
    assert kinds == ["queued", "running", "progress", "succeeded", "artifacts-deleted"]


def test_what_was_made_of_a_data_set_goes_with_it(
    repository: Repository, create: Create, claim: Claim
) -> None:
    maker = claim(create().id)
    assert maker is not None
    dataset = save_dataset(repository, maker)
    assert dataset is not None
    end(repository, maker, {"contact-sheet.jpg": None})
    spec = EvaluateSpec.model_validate({"data": {"dataset": dataset.id}, "models": ["m"]})
    reader = claim(create(images=[], spec=spec).id)
    stranger = claim(create().id)
    assert reader is not None
    assert stranger is not None
    end(repository, reader, {"errors.png": None, "result.json": None})
    end(repository, stranger, {"other.png": None})

    assert repository.datasets.delete(TENANT, dataset.id)

    assert names(repository, maker) == []
    assert names(repository, reader) == ["result.json"]
    assert names(repository, stranger) == ["other.png"]


def test_a_live_job_still_keeps_its_image(
    repository: Repository, create: Create, claim: Claim
) -> None:
    image = new_image()
    repository.images.create(TENANT, image, retention_seconds=HOUR)
    done = claim(create(image_ids=(image.id,)).id)
    assert done is not None
    end(repository, done, {"a.jpg": image.id})
    create(spec=ClassifySpec(images=(image.id,)), image_ids=(image.id,))

    with pytest.raises(Problem, match="still reads"):
        repository.images.delete(TENANT, image.id)

    assert names(repository, done) == ["a.jpg"], "nothing of it is done halfway"
