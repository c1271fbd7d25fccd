"""Jobs as their owners see them."""

from collections.abc import Callable

import pytest

from shared.db import Repository
from shared.db.tables import Job
from shared.problems import Problem
from tests.unit.db.conftest import HOUR, TENANT, Create, new_image

Claim = Callable[..., Job | None]


def test_a_new_job_is_queued_with_its_images_and_an_event(
    repository: Repository, create: Create
) -> None:
    photos = [new_image(), new_image()]
    job = create(images=photos)

    found = repository.jobs.get(TENANT, job.id)

    assert found is not None
    assert (found.state, found.kind, found.queue) == ("queued", "classify", "interactive")
    rows = repository.images.of_job(TENANT, job.id)
    assert [row.id for row in rows] == [photo.id for photo in photos]
    assert [event.type for event in repository.jobs.events_after(TENANT, job.id, 0)] == ["queued"]


def test_an_image_named_twice_is_read_twice(repository: Repository, create: Create) -> None:
    photo = new_image()
    repository.images.create(TENANT, photo, retention_seconds=HOUR)
    job = create(image_ids=(photo.id, photo.id))

    assert len(repository.images.of_job(TENANT, job.id)) == 2


def test_another_tenant_sees_nothing(repository: Repository, create: Create) -> None:
    job = create()

    assert repository.jobs.get("other", job.id) is None
    assert repository.jobs.cancel("other", job.id) is None
    assert repository.jobs.purge("other", job.id) is False
    assert repository.jobs.events_after("other", job.id, 0) == []
    assert repository.jobs.page("other", limit=10) == []
    assert repository.images.of_job("other", job.id) == []
    assert repository.jobs.get(TENANT, job.id) is not None


def test_a_job_may_not_name_a_foreign_or_missing_image(
    repository: Repository, create: Create
) -> None:
    foreign = new_image("other")
    repository.images.create("other", foreign, retention_seconds=HOUR)

    with pytest.raises(Problem) as caught:
        create(image_ids=(foreign.id,))

    assert caught.value.slug == "unknown-image"
    assert caught.value.extensions["errors"][0]["pointer"] == "/images/0"
    assert repository.jobs.page(TENANT, limit=10) == []


def test_a_full_queue_refuses(create: Create) -> None:
    create(max_queued=2)
    create(max_queued=2)

    with pytest.raises(Problem) as caught:
        create(max_queued=2)

    assert caught.value.slug == "queue-full"
    assert "Retry-After" in caught.value.headers


def test_a_repeated_idempotency_key_returns_the_first_job(
    repository: Repository, create: Create
) -> None:
    first = create(idempotency_key="k", fingerprint="a")

    again = create(idempotency_key="k", fingerprint="a")
    elsewhere = create(idempotency_key="k", fingerprint="b", tenant_id="other")

    assert again.id == first.id
    assert elsewhere.id != first.id
    with pytest.raises(Problem) as caught:
        create(idempotency_key="k", fingerprint="b")
    assert caught.value.slug == "idempotency-key-reused"
    assert len(repository.jobs.page(TENANT, limit=10)) == 1


def test_pages_follow_each_other_without_gap_or_repetition(
    repository: Repository, create: Create
) -> None:
    made = [create().id for _ in range(7)]
    seen: list[str] = []
    before = None
    while page := repository.jobs.page(TENANT, limit=3, before=before):
        seen += [job.id for job in page]
        before = (page[-1].created_at, page[-1].id)

    assert sorted(seen) == sorted(made)
    assert len(seen) == 7


def test_a_queued_job_is_cancelled_at_once_a_running_one_is_asked(
    repository: Repository, create: Create, claim: Claim
) -> None:
    waiting, running = create(), create()
    claim(running.id)

    cancelled = repository.jobs.cancel(TENANT, waiting.id)
    asked = repository.jobs.cancel(TENANT, running.id)
    again = repository.jobs.cancel(TENANT, running.id)

    assert cancelled is not None
    assert asked is not None
    assert again is not None
    assert (cancelled.state, asked.state, again.state) == ("cancelled", "cancelling", "cancelling")
    with pytest.raises(Problem) as caught:
        repository.jobs.cancel(TENANT, waiting.id)
    assert caught.value.slug == "job-finished"
    assert claim(waiting.id) is None


def test_purging_leaves_a_tombstone_without_personal_data(
    repository: Repository, create: Create, claim: Claim
) -> None:
    job = create()
    claimed = claim(job.id)
    assert claimed is not None

    assert repository.jobs.purge(TENANT, job.id)

    assert repository.jobs.get(TENANT, job.id) is None
    assert repository.images.of_job(TENANT, job.id) == []
    assert repository.jobs.events_after(TENANT, job.id, 0) == []
    assert not repository.claims.finish(
        job.id, claimed.fence, state="succeeded", retention_seconds=HOUR, result={"a": 1}
    ), "a claim that was at work ends in nothing"
    assert repository.claims.progress(job.id, claimed.fence, {"done": 1}) is None
    prefixes = {sweep.prefix for sweep in repository.keeping.due_sweeps()}
    assert f"{TENANT}/jobs/{job.id}/" in prefixes
    assert any(prefix.startswith(f"{TENANT}/images/") for prefix in prefixes)
    assert repository.jobs.purge(TENANT, job.id) is False


def test_an_image_of_a_live_job_cannot_be_deleted(
    repository: Repository, create: Create, claim: Claim
) -> None:
    photo = new_image()
    repository.images.create(TENANT, photo, retention_seconds=HOUR)
    job = create(image_ids=(photo.id,))

    with pytest.raises(Problem) as caught:
        repository.images.delete(TENANT, photo.id)

    assert caught.value.slug == "image-in-use"
    repository.jobs.cancel(TENANT, job.id)
    assert repository.images.delete(TENANT, photo.id)
    assert repository.images.get(TENANT, photo.id) is None


def test_watchers_see_changes_in_snapshots(
    repository: Repository, create: Create, claim: Claim
) -> None:
    job = create()
    before = repository.jobs.snapshots([job.id])[job.id]
    claim(job.id)
    after = repository.jobs.snapshots([job.id, "job_missing"])[job.id]

    assert (before.state, after.state) == ("queued", "running")
    assert after.event_seq > before.event_seq


def test_keys_work_until_revoked(repository: Repository) -> None:
    assert not repository.keys.any_in_force()
    key, secret = repository.keys.create("acme", name="ci")

    assert repository.keys.tenant_of(secret) == "acme"
    assert repository.keys.tenant_of(secret + "x") is None
    assert secret not in str(vars(repository.keys.all()[0]))
    assert repository.keys.revoke(key.id)
    assert repository.keys.tenant_of(secret) is None
    assert not repository.keys.revoke(key.id)
