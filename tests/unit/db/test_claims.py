"""Claims, fences and leases; and what happens when many want the same job."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.db import Repository
from shared.db.claims import NewArtifact
from shared.db.tables import Job
from shared.problems import Problem
from tests.unit.db.conftest import HOUR, TENANT, Create

Claim = Callable[..., Job | None]


def artifact(name: str, job: Job) -> NewArtifact:
    return NewArtifact(
        name=name,
        media_type="text/plain",
        size=1,
        sha256="0" * 64,
        object_key=f"{TENANT}/jobs/{job.id}/{job.fence}/{name}",
    )


def batch(
    repository: Repository, job_id: str = "", *, room: int, owner: str = "worker"
) -> list[str]:
    claimed = repository.claims.claim_batch(
        job_id, queues=("interactive",), owner=owner, lease_seconds=60, room=lambda first: room
    )
    return [job.id for job in claimed]


def finish(repository: Repository, job: Job, **ending: object) -> bool:
    options: dict[str, object] = {"state": "succeeded", "result": {"n": 1}, **ending}
    return repository.claims.finish(
        job.id,
        job.fence,
        retention_seconds=HOUR,
        **options,  # type: ignore[arg-type]
    )


def reap(repository: Repository, max_losses: int = 3) -> list[str]:
    reaped = repository.keeping.reap(
        max_losses=max_losses, retention_seconds=HOUR, ring_again_seconds=1
    )
    return [job.state for job in reaped]


def lose(repository: Repository, claim: Claim, job_id: str) -> list[str]:
    """Claim a job, let the lease run out, reap."""
    assert claim(job_id, lease_seconds=-1.0) is not None
    return reap(repository)


def test_a_claim_takes_a_job_once(create: Create, claim: Claim) -> None:
    job = create()

    claimed = claim(job.id)

    assert claimed is not None
    assert (claimed.state, claimed.fence, claimed.owner) == ("running", 1, "worker")
    assert claim(job.id) is None
    assert claim() is None


def test_the_oldest_goes_first_and_only_in_the_queues_served(create: Create, claim: Claim) -> None:
    first, second = create(), create()

    assert claim(queues=("batch",)) is None
    assert claim(first.id, queues=("batch",)) is None
    taken = [claim(), claim()]

    assert [job.id for job in taken if job] == [first.id, second.id]


def test_a_finished_job_has_its_result_and_artifacts(
    repository: Repository, create: Create, claim: Claim
) -> None:
    create()
    job = claim()
    assert job is not None

    assert finish(repository, job, artifacts=[artifact("b.txt", job), artifact("a.txt", job)])

    found = repository.jobs.get(TENANT, job.id)
    assert found is not None
    assert (found.state, found.result, found.lease_expires_at) == ("succeeded", {"n": 1}, None)
    assert [row.name for row in repository.jobs.artifacts(TENANT, job.id)] == ["b.txt", "a.txt"]
    assert not finish(repository, job, result={"n": 2}), "an end is final"


def test_a_zombie_writes_nothing(repository: Repository, create: Create, claim: Claim) -> None:
    create()
    zombie = claim(lease_seconds=-1.0)
    assert zombie is not None
    assert reap(repository) == ["queued"]
    heir = claim()
    assert heir is not None
    assert heir.fence == 2

    assert not finish(repository, zombie)
    assert repository.claims.progress(zombie.id, 1, {"done": 1}) is None
    assert not repository.claims.event(zombie.id, 1, "note", {})
    assert not repository.claims.checkpoint(zombie.id, 1, {"a": "key"})
    assert repository.claims.hand_back(zombie.id, 1, ring_again_seconds=1) is None
    assert repository.claims.renew([(zombie.id, 1)], owner="worker", lease_seconds=9) == {}

    assert finish(repository, heir)
    prefixes = {sweep.prefix for sweep in repository.keeping.due_sweeps()}
    assert f"{TENANT}/jobs/{heir.id}/1/" in prefixes, "what the zombie stored goes"
    assert f"{TENANT}/jobs/{heir.id}/2/" in prefixes, "a result without artifacts keeps nothing"


def test_a_renewed_lease_is_not_reaped(
    repository: Repository, create: Create, claim: Claim
) -> None:
    create()
    job = claim(lease_seconds=0.05)
    assert job is not None
    assert repository.claims.renew([(job.id, 1)], owner="else", lease_seconds=60) == {}
    held = repository.claims.renew([(job.id, 1)], owner="worker", lease_seconds=60)
    time.sleep(0.1)

    assert held == {job.id: "running"}
    assert reap(repository) == []


def test_renewing_tells_of_a_cancellation(
    repository: Repository, create: Create, claim: Claim
) -> None:
    create()
    job = claim()
    assert job is not None
    repository.jobs.cancel(TENANT, job.id)

    held = repository.claims.renew([(job.id, 1)], owner="worker", lease_seconds=60)

    assert held == {job.id: "cancelling"}
    assert repository.claims.progress(job.id, 1, {"done": 1}) == "cancelling"


def test_the_third_loss_is_the_last(repository: Repository, create: Create, claim: Claim) -> None:
    job = create()

    states = [lose(repository, claim, job.id) for _ in range(3)]

    assert states == [["queued"], ["queued"], ["failed"]]
    found = repository.jobs.get(TENANT, job.id)
    assert found is not None
    assert found.problem is not None
    assert found.problem["type"] == "/problems/worker-lost"
    assert claim(job.id) is None


def test_handing_back_costs_no_loss_and_keeps_the_clock(
    repository: Repository, create: Create, claim: Claim
) -> None:
    first, second = create(), create()
    job = claim(first.id)
    assert job is not None
    time.sleep(0.05)

    assert repository.claims.hand_back(first.id, 1, ring_again_seconds=0) == "queued"

    back = repository.jobs.get(TENANT, first.id)
    assert back is not None
    assert (back.state, back.losses, back.owner) == ("queued", 0, None)
    assert back.run_seconds > 0.045  # SQLite's clock counts milliseconds
    taken = claim()
    assert taken is not None
    assert taken.id == second.id, "it waits at the end of the queue"


def test_handing_back_a_job_to_be_cancelled_ends_it(
    repository: Repository, create: Create, claim: Claim
) -> None:
    create()
    job = claim()
    assert job is not None
    repository.jobs.cancel(TENANT, job.id)

    assert repository.claims.hand_back(job.id, 1, ring_again_seconds=0) == "cancelled"


def test_a_batch_takes_compatible_jobs_and_none_that_was_lost(
    repository: Repository, create: Create, claim: Claim
) -> None:
    lost, *good = [create() for _ in range(4)]
    lose(repository, claim, lost.id)

    first, *others = batch(repository, good[0].id, room=9)
    assert first == good[0].id
    assert sorted(others) == sorted(job.id for job in good[1:])  # of one millisecond, perhaps
    create()
    assert batch(repository, lost.id, room=9) == [lost.id]


def test_a_batch_asks_its_first_job_for_room(repository: Repository, create: Create) -> None:
    first, second, third = [create() for _ in range(3)]
    asked = []

    def room(job: Job) -> int:
        asked.append((job.id, job.state, (job.spec or {})["kind"]))
        return 1

    claimed = repository.claims.claim_batch(
        second.id, queues=("interactive",), owner="w", lease_seconds=60, room=room
    )

    assert [job.id for job in claimed] == [second.id, first.id]
    assert asked == [(second.id, "running", "classify")]
    assert batch(repository, second.id, room=0) == [third.id]  # taken: the oldest instead
    assert batch(repository, "job_nobody", room=9) == []


def test_a_checkpoint_replaces_the_one_before_and_goes_with_the_end(
    repository: Repository, create: Create, claim: Claim
) -> None:
    create()
    job = claim()
    assert job is not None
    assert repository.claims.checkpoint(job.id, 1, {"a": "key-a", "b": "key-b"})
    assert repository.claims.checkpoint(job.id, 1, {"a": "newer"})

    assert repository.claims.checkpoint_files(job.id) == {"a": "newer"}
    finish(repository, job, artifacts=[artifact("a.txt", job)])
    assert repository.claims.checkpoint_files(job.id) == {}
    prefixes = {sweep.prefix for sweep in repository.keeping.due_sweeps()}
    assert f"{TENANT}/jobs/{job.id}/1/checkpoints/" in prefixes


def test_old_progress_events_are_dropped_and_numbers_go_on(
    repository: Repository, create: Create, claim: Claim
) -> None:
    create()
    job = claim()
    assert job is not None
    for done in range(620):
        repository.claims.progress(job.id, 1, {"done": done})

    events = repository.jobs.events_after(TENANT, job.id, 0, limit=2000)

    assert len(events) < 620
    assert [event.type for event in events[:2]] == ["queued", "running"]
    numbers = [event.seq for event in events]
    assert numbers == sorted(set(numbers))
    assert events[-1].data == {"done": 619}


@pytest.mark.parametrize("rings", ["of each", "of the oldest"])
def test_racing_workers_claim_each_job_once(
    repository: Repository, create: Create, claim: Claim, rings: str
) -> None:
    jobs = [create().id for _ in range(24)]

    def work(number: int) -> list[str]:
        taken = []
        for job_id in jobs:
            got = claim(job_id if rings == "of each" else None, owner=f"worker {number}")
            if got is not None:
                taken.append(got.id)
        return taken

    with ThreadPoolExecutor(6) as pool:
        taken = Counter(job_id for part in pool.map(work, range(6)) for job_id in part)

    assert taken == Counter(jobs)


def test_racing_batches_share_the_jobs(repository: Repository, create: Create) -> None:
    jobs = [create().id for _ in range(30)]

    def work(number: int) -> list[str]:
        taken: list[str] = []
        while some := batch(repository, room=4, owner=f"w{number}"):
            taken += some
        return taken

    with ThreadPoolExecutor(5) as pool:
        taken = [job_id for part in pool.map(work, range(5)) for job_id in part]

    assert Counter(taken) == Counter(jobs)


def test_of_many_ends_of_one_claim_one_counts(
    repository: Repository, create: Create, claim: Claim
) -> None:
    create()
    job = claim()
    assert job is not None

    def end(number: int) -> bool:
        if number % 2:
            problem = Problem("job-failed", "no")
            return finish(repository, job, state="failed", result=None, problem=problem)
        return finish(repository, job, result={"n": number})

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(end, range(8)))

    assert ends.count(True) == 1
    events = [event.type for event in repository.jobs.events_after(TENANT, job.id, 0)]
    assert len([kind for kind in events if kind in ("succeeded", "failed")]) == 1


def test_racing_repetitions_of_one_request_create_one_job(
    repository: Repository, create: Create
) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: create(idempotency_key="k", fingerprint="f").id, range(8)))

    assert len(set(made)) == 1
    assert len(repository.jobs.page(TENANT, limit=10)) == 1


def test_racing_reapers_count_a_loss_once(
    repository: Repository, create: Create, claim: Claim
) -> None:
    for _ in range(5):
        create()
        claim(lease_seconds=-1.0)

    with ThreadPoolExecutor(4) as pool:
        states = [
            state for part in pool.map(lambda _: reap(repository), range(4)) for state in part
        ]

    assert states == ["queued"] * 5
    waiting = [
        repository.jobs.get(TENANT, job.id) for job in repository.jobs.page(TENANT, limit=10)
    ]
    assert [job.losses for job in waiting if job] == [1] * 5
