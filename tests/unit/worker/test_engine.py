"""How jobs are claimed, run and ended."""

import errno
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DataError, OperationalError

from services.child import RETIRING
from services.worker.runtime import attempt as attempt_module
from services.worker.runtime.context import JobContext
from services.worker.stopping import Stopped
from shared.db.queries import job_prefix
from shared.images import ImageRejectedError, decode_rgb
from shared.objects import ObjectStoreFullError, ObjectStoreUnavailableError
from shared.problems import Problem
from tests.unit.worker.conftest import TENANT, Bench, a_result


def test_one_ring_empties_the_queue(bench: Bench) -> None:
    jobs = [bench.create() for _ in range(5)]
    order: list[str] = []

    def run(context: JobContext, spec: Any) -> Any:
        order.append(context.job_id)
        return a_result()

    bench.engine(run).look(jobs[2])

    assert order == [jobs[2], jobs[0], jobs[1], jobs[3], jobs[4]]
    assert {bench.job(job_id).state for job_id in jobs} == {"succeeded"}


def test_an_unknown_job_is_no_reason_to_stop(bench: Bench) -> None:
    job_id = bench.create()

    bench.engine(lambda context, spec: a_result()).look("job_nobody")

    assert bench.job(job_id).state == "succeeded"


def test_a_worker_is_recycled_after_so_many_jobs(bench: Bench) -> None:
    jobs = [bench.create() for _ in range(3)]
    settings = bench.settings.model_copy(update={"recycle_after_jobs": 2, "batch_jobs": 1})
    engine = Bench(settings, bench.repository, bench.objects).engine(lambda *_: a_result())

    engine.look()

    assert engine.is_done
    assert [bench.job(job_id).state for job_id in jobs].count("queued") == 1


def test_a_supervised_worker_goes_on_until_it_is_relieved(bench: Bench, tmp_path: Path) -> None:
    jobs = [bench.create() for _ in range(3)]
    settings = bench.settings.model_copy(update={"recycle_after_jobs": 2, "batch_jobs": 1})
    own = Bench(settings, bench.repository, bench.objects)
    engine = own.engine(lambda *_: a_result(), supervised=True)

    engine.look()

    assert not engine.is_done
    assert {bench.job(job_id).state for job_id in jobs} == {"succeeded"}
    own.heartbeat._health_file = tmp_path / "health"
    own.heartbeat._beat_once()
    assert (tmp_path / "health").read_text() == RETIRING, "it asks for a successor"
    engine.stopping = True
    assert engine.is_done


def test_compatible_jobs_run_as_one_batch(bench: Bench) -> None:
    jobs = [bench.create() for _ in range(3)]
    other = bench.create(model="another")
    sizes: list[int] = []

    def run_batch(items: Any) -> Any:
        sizes.append(len(items))
        return [a_result(warnings=(context.job_id,)) for context, _ in items]

    bench.engine(lambda context, spec: a_result(), run_batch).look()

    assert sizes == [3]
    for job_id in jobs:
        assert (bench.job(job_id).result or {})["warnings"] == [job_id]
    assert bench.job(other).state == "succeeded"


@pytest.mark.parametrize(("photos", "expected"), [(1, [4, 2]), (3, [2, 2, 2]), (8, [])])
def test_a_batch_has_no_more_photos_than_a_pass_likes(
    bench: Bench, photos: int, expected: list[int]
) -> None:
    jobs = [bench.create(photos=photos) for _ in range(6)]
    sizes: list[int] = []
    alone: list[str] = []

    def run(context: JobContext, spec: Any) -> Any:
        alone.append(context.job_id)
        return a_result()

    def run_batch(items: Any) -> Any:
        sizes.append(len(items))
        return [a_result() for _ in items]

    bench.engine(run, run_batch).look()

    assert sizes == expected
    assert alone == ([] if expected else jobs)
    assert {bench.job(job_id).state for job_id in jobs} == {"succeeded"}


@pytest.mark.parametrize(
    ("reports", "told"),
    [([1], []), ([0, 1], [0, 1])],
    ids=["the only one is no event", "the last of several is"],
)
def test_the_last_progress_comes_with_the_end(
    bench: Bench, reports: list[int], told: list[int]
) -> None:
    job_id = bench.create()

    def run(context: JobContext, spec: Any) -> Any:
        for done in reports:
            context.progress(done, 1, "of it")
        assert bench.job(job_id).progress != {"done": 1, "total": 1, "message": "of it"}
        return a_result()

    bench.engine(run).look()

    job = bench.job(job_id)
    assert job.progress == {"done": 1, "total": 1, "message": "of it"}
    events = bench.repository.jobs.events_after(TENANT, job_id, 0)
    assert [event.data["done"] for event in events if event.type == "progress"] == told
    assert [event.seq for event in events] == list(range(1, job.event_seq + 1))
    assert events[-1].type == "succeeded"


@pytest.mark.parametrize("stores", [False, True])
def test_only_what_may_have_been_stored_is_swept(bench: Bench, stores: bool) -> None:
    job_id = bench.create()

    def run(context: JobContext, spec: Any) -> Any:
        if stores:
            context.artifacts.put("half.txt", b"half", "text/plain")
        raise Problem("invalid-input", "no")

    bench.engine(run).look()

    swept = [sweep.prefix for sweep in bench.repository.keeping.due_sweeps()]
    assert swept == ([job_prefix(TENANT, job_id, 1)] if stores else [])


@pytest.mark.parametrize("how", ["raises", "returns too few", "runs out of memory"])
def test_a_batch_that_falls_apart_runs_one_by_one(bench: Bench, how: str) -> None:
    good, bad = bench.create(), bench.create()

    def run_batch(items: Any) -> Any:
        items[0][0].artifacts.put("half.txt", b"of the batch", "text/plain")
        if how == "raises":
            raise RuntimeError("the whole batch")
        if how == "runs out of memory":
            raise MemoryError
        return [a_result()]

    def run(context: JobContext, spec: Any) -> Any:
        if context.job_id == bad:
            raise RuntimeError("only this one")
        return a_result()

    bench.engine(run, run_batch).look()

    assert bench.job(good).state == "succeeded"
    assert bench.problem(bad) == "job-failed"
    assert bench.repository.jobs.artifacts(TENANT, good) == []


def test_one_failure_within_a_batch_is_that_job_s_alone(bench: Bench) -> None:
    good, bad = bench.create(), bench.create()

    def run_batch(items: Any) -> Any:
        return [
            Problem("invalid-input", "no") if context.job_id == bad else a_result()
            for context, _ in items
        ]

    bench.engine(lambda *_: a_result(), run_batch).look()

    assert bench.job(good).state == "succeeded"
    assert bench.problem(bad) == "invalid-input"


@pytest.mark.parametrize(
    ("error", "slug"),
    [
        (Problem("unknown-model", "no"), "unknown-model"),
        (ImageRejectedError("corrupt-image", "bits missing"), "invalid-input"),
        (ObjectStoreFullError("full"), "storage-full"),
        (ObjectStoreUnavailableError("dead"), "object-store-unavailable"),
        (RuntimeError("/secret/path"), "job-failed"),
        (MemoryError(), "out-of-memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out-of-memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out-of-memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out-of-memory"),
        (ValueError("from a test, which is not the service's code"), "job-failed"),
        (KeyError("x"), "job-failed"),
    ],
)
def test_errors_become_problems(bench: Bench, error: Exception, slug: str) -> None:
    job_id = bench.create()

    def run(context: JobContext, spec: Any) -> Any:
        raise error

    bench.engine(run).look()

    assert bench.problem(job_id) == slug
    assert "secret" not in str(bench.job(job_id).problem)


def test_what_our_own_code_refuses_is_told_in_its_words(bench: Bench) -> None:
    job_id = bench.create()

    def run(context: JobContext, spec: Any) -> Any:
        bench.objects.put("../outside", b"")

    bench.engine(run).look()

    assert bench.problem(job_id) == "invalid-input"
    assert "../outside" in str(bench.job(job_id).problem)


def test_a_damaged_image_fails_its_job(bench: Bench) -> None:
    job_id = bench.create(image=b"not an image")

    bench.engine(lambda context, spec: context.inputs.image(0)).look()

    assert bench.problem(job_id) == "invalid-input"
    with pytest.raises(ImageRejectedError):
        decode_rgb(b"not an image")


def test_an_image_that_is_gone_fails_its_job(bench: Bench) -> None:
    job_id = bench.create()
    bench.objects.delete(bench.repository.images.of_job(TENANT, job_id)[0].object_key)

    bench.engine(lambda context, spec: context.inputs.image(0)).look()

    assert bench.problem(job_id) == "invalid-input"


def test_a_result_that_the_database_refuses_fails_and_blocks_nobody(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = bench.create(), bench.create()
    finish = bench.repository.claims.finish

    def strict(job_id: str, fence: int, **ending: Any) -> bool:
        if job_id == bad and ending["state"] == "succeeded":
            raise DataError("UPDATE", {}, Exception("invalid byte sequence"))
        return finish(job_id, fence, **ending)

    monkeypatch.setattr(bench.repository.claims, "finish", strict)

    bench.engine(lambda *_: a_result()).look()

    assert bench.problem(bad) == "job-failed"
    assert bench.job(good).state == "succeeded"


def test_a_large_result_is_kept_as_an_artifact(bench: Bench) -> None:
    job_id = bench.create()

    bench.engine(lambda *_: a_result(parameters={"x": "y" * 70_000}, warnings=("w",))).look()

    row = bench.job(job_id).result
    assert row is not None
    assert (row["kind"], row["result_artifact"]) == ("classify", "result.json")
    assert row["warnings"] == ["w"]
    assert "parameters" not in row
    stored = bench.repository.jobs.artifact(TENANT, job_id, "result.json")
    assert stored is not None
    assert len(bench.objects.get(stored.object_key)) == stored.size > 70_000


@pytest.mark.parametrize(
    ("stop", "state", "left"),
    [
        (Stopped("canceled"), "cancelled", ["best.txt"]),
        (Stopped("deadline"), "failed", ["best.txt"]),
    ],
)
def test_a_job_that_is_stopped_may_leave_what_it_has(
    bench: Bench, stop: BaseException, state: str, left: list[str]
) -> None:
    job_id = bench.create()

    def run(context: JobContext, spec: Any) -> Any:
        context.artifacts.put("half.txt", b"half", "text/plain")
        context._attempt.claim.cancel.set()
        with pytest.raises(Stopped, match="canceled"):
            context.artifacts.put("more.txt", b"more", "text/plain")
        context.artifacts.put("best.txt", b"best", "text/plain", stopped=True)
        raise stop

    bench.engine(run).look()

    assert bench.job(job_id).state == state
    artifacts = bench.repository.jobs.artifacts(TENANT, job_id)
    assert [made.name for made in artifacts] == left
    assert bench.objects.get(artifacts[0].object_key) == b"best"


def test_a_job_that_fails_leaves_nothing(bench: Bench) -> None:
    job_id = bench.create()

    def run(context: JobContext, spec: Any) -> Any:
        context.artifacts.put("best.txt", b"best", "text/plain", stopped=True)
        raise Problem("invalid-input", "No.")

    bench.engine(run).look()

    assert bench.job(job_id).state == "failed"
    assert bench.repository.jobs.artifacts(TENANT, job_id) == []


def test_a_job_that_asks_to_be_handed_back_waits_again(bench: Bench) -> None:
    job_id = bench.create()
    engine = bench.engine(lambda *_: a_result())

    def run(context: JobContext, spec: Any) -> Any:
        engine.stopping = True
        raise Stopped("hand back")

    engine._find_module = lambda kind: type("module", (), {"run": staticmethod(run)})  # type: ignore[assignment,return-value]

    engine.look()

    assert (bench.job(job_id).state, bench.job(job_id).losses) == ("queued", 0)
    assert bench.bell.rung == [job_id]


def test_an_end_is_recorded_once_the_database_answers(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = bench.create()
    finish, failures = bench.repository.claims.finish, [1, 2, 3]

    def flaky(*args: Any, **kwargs: Any) -> bool:
        if failures:
            failures.pop()
            raise OperationalError("UPDATE", {}, Exception("server closed the connection"))
        return finish(*args, **kwargs)

    monkeypatch.setattr(bench.repository.claims, "finish", flaky)

    bench.engine(lambda *_: a_result()).look()

    assert failures == []
    assert bench.job(job_id).state == "succeeded"


def test_waits_for_a_database_that_does_not_answer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = bench.create()
    claim, failures = bench.repository.claims.claim_batch, [1, 2]

    def flaky(*args: Any, **kwargs: Any) -> Any:
        if failures:
            failures.pop()
            raise OperationalError("SELECT", {}, Exception("connection refused"))
        return claim(*args, **kwargs)

    monkeypatch.setattr(bench.repository.claims, "claim_batch", flaky)

    bench.engine(lambda *_: a_result()).look(job_id)

    assert failures == []
    assert bench.job(job_id).state == "succeeded"


def test_an_upload_is_tried_again_and_given_up_in_the_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, hopeless = bench.create(), bench.create()
    put, failures = bench.objects.put, [1, 2]
    monkeypatch.setattr(attempt_module, "STORE_PATIENCE_SECONDS", 1.0)

    def flaky(key: str, data: bytes) -> None:
        if hopeless in key or failures:
            del failures[:1]
            raise ObjectStoreUnavailableError("503")
        put(key, data)

    monkeypatch.setattr(bench.objects, "put", flaky)

    def run(context: JobContext, spec: Any) -> Any:
        context.artifacts.put("a.txt", b"a", "text/plain")
        return a_result()

    bench.engine(run).look(job_id)

    assert bench.job(job_id).state == "succeeded"
    assert bench.problem(hopeless) == "object-store-unavailable"


def test_a_deleted_job_ends_in_nothing(bench: Bench) -> None:
    job_id = bench.create()

    def run(context: JobContext, spec: Any) -> Any:
        bench.repository.jobs.purge(TENANT, job_id)
        context.progress(1, 2)
        raise AssertionError("unreachable")

    bench.engine(run).look()

    assert bench.repository.jobs.get(TENANT, job_id) is None
    assert bench.bell.rung == []
