"""What a job may do, and what stops it."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from services.worker.runtime.claim import Claim
from services.worker.runtime.context import JobContext
from services.worker.stopping import Stopped
from shared.dataset_card import DatasetCard
from shared.db.queries import new_id
from shared.model_card import ModelCard
from shared.problems import Problem
from tests.claiming import claim
from tests.unit.worker.conftest import TENANT, Bench

Begin = Callable[..., tuple[JobContext, Claim]]


@pytest.fixture
def begin(bench: Bench) -> Begin:
    """Claims a new job (or the one named) and returns its context."""

    def begun(job_id: str | None = None, lease_seconds: float = 60) -> tuple[JobContext, Claim]:
        job = claim(bench.repository, job_id or bench.create(), lease_seconds=lease_seconds)
        assert job is not None
        held = Claim.of(job, lease_seconds=lease_seconds)
        return JobContext(held, bench.services), held

    return begun


def test_progress_is_written_seldom_and_the_last_with_the_end(bench: Bench, begin: Begin) -> None:
    context, _ = begin()
    for done in range(1, 101):
        context.progress(done, 100, "working")

    events = bench.repository.jobs.events_after(TENANT, context.job_id, 0)
    written = [event.data["done"] for event in events if event.type == "progress"]

    assert written[0] == 1
    assert 100 not in written
    assert len(written) < 20
    assert context.reporting.last_progress == {"done": 100, "total": 100, "message": "working"}


def test_a_next_phase_follows_the_end_of_the_one_before(bench: Bench, begin: Begin) -> None:
    context, _ = begin()
    context.progress(5, 5, "training")
    context.progress(0, 3, "judging")

    assert context.reporting.last_progress is None
    assert bench.job(context.job_id).progress == {"done": 0, "total": 3, "message": "judging"}


def test_progress_tells_of_a_cancellation(bench: Bench, begin: Begin) -> None:
    context, _ = begin()
    bench.repository.jobs.cancel(TENANT, context.job_id)

    with pytest.raises(Stopped, match="canceled"):
        context.progress(1, 2)


def test_a_job_past_its_deadline_or_lease_is_stopped(begin: Begin) -> None:
    context, held = begin()
    context.check()
    held.deadline = time.monotonic() - 1
    with pytest.raises(Stopped, match="deadline"):
        context.check()
    held.lease_until = time.monotonic() - 1
    with pytest.raises(Stopped, match="lease lost"):
        context.check()


def test_time_of_earlier_attempts_counts(bench: Bench, begin: Begin) -> None:
    context, held = begin()
    first = held.deadline - time.monotonic()
    time.sleep(0.1)
    bench.repository.claims.hand_back(context.job_id, 1, ring_again_seconds=0)

    _, again = begin(context.job_id)

    assert again.deadline - time.monotonic() <= first - 0.1


def test_an_artifact_of_the_same_name_replaces_the_first(bench: Bench, begin: Begin) -> None:
    context, _ = begin()
    context.artifacts.put("a.txt", b"old", "text/plain")
    context.artifacts.put("b.txt", b"b", "text/plain", image=0)
    context.artifacts.put("a.txt", b"newer", "text/plain")

    stored = context.artifacts.stored
    assert [(made.name, made.size) for made in stored] == [("b.txt", 1), ("a.txt", 5)]
    assert [made.image_id for made in stored] == [context.inputs.images[0].id, None]
    assert bench.objects.get(f"{TENANT}/jobs/{context.job_id}/1/a.txt") == b"newer"


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".hidden", "a\n", "ä", "x" * 101])
def test_names_that_no_artifact_may_have(begin: Begin, name: str) -> None:
    context, _ = begin()
    with pytest.raises(ValueError, match="name"):
        context.artifacts.put(name, b"", "text/plain")


def test_checkpoints_survive_the_attempt_and_leave_no_litter(bench: Bench, begin: Begin) -> None:
    context, _ = begin()
    assert context.checkpoints.load() is None
    context.checkpoints.save({"weights": b"1", "position": b"1"})
    context.checkpoints.save({"weights": b"2", "position": b"2"})
    prefix = f"{TENANT}/jobs/{context.job_id}/"
    assert len(list(bench.objects.keys(prefix))) == 2
    bench.repository.claims.hand_back(context.job_id, 1, ring_again_seconds=0)

    heir, _ = begin(context.job_id)

    assert heir.checkpoints.load() == {"weights": b"2", "position": b"2"}
    with pytest.raises(Stopped, match="lease lost"):
        context.checkpoints.save({"weights": b"of a zombie"})
    assert heir.checkpoints.load() == {"weights": b"2", "position": b"2"}


def test_a_checkpoint_with_a_file_missing_counts_as_none(bench: Bench, begin: Begin) -> None:
    context, _ = begin()
    context.checkpoints.save({"a": b"1", "b": b"1"})
    key = bench.repository.claims.checkpoint_files(context.job_id)["b"]
    bench.objects.delete(key)

    assert context.checkpoints.load() is None


def test_artifacts_of_an_earlier_attempt_are_taken_over(bench: Bench, begin: Begin) -> None:
    context, _ = begin()
    context.artifacts.put("photo.png", b"attacked", "image/png")
    bench.repository.claims.hand_back(context.job_id, 1, ring_again_seconds=0)
    heir, _ = begin(context.job_id)

    assert heir.artifacts.take_over("photo.png", "image/png", attempt=context.attempt, image=0)
    assert not heir.artifacts.take_over("other.png", "image/png", attempt=context.attempt)
    (kept,) = heir.artifacts.stored
    assert bench.objects.get(kept.object_key) == b"attacked"
    assert kept.image_id == heir.inputs.images[0].id, "it goes with the image it was made of"
    assert f"/{heir.attempt}/" in kept.object_key, "the earlier attempt's place is swept"


def test_events_of_a_job_s_own_making(bench: Bench, begin: Begin) -> None:
    context, held = begin()
    context.event("epoch", {"accuracy": 0.5})

    last = bench.repository.jobs.events_after(TENANT, context.job_id, 0)[-1]
    assert (last.type, last.data) == ("epoch", {"accuracy": 0.5})
    bench.repository.jobs.purge(TENANT, context.job_id)
    with pytest.raises(Stopped, match="lease lost"):
        context.event("epoch", {})
    assert held.is_lost


def test_stops_are_not_swallowed_by_a_job_that_catches_exceptions(begin: Begin) -> None:
    context, held = begin()
    held.cancel.set()

    def careless() -> Any:
        try:
            context.check()
        except Exception:
            return "swallowed"

    with pytest.raises(Stopped, match="canceled"):
        careless()


def test_a_model_is_registered_with_its_weights(bench: Bench, begin: Begin) -> None:
    context, _ = begin()
    card = a_card(b"weights")

    context.registry.save_model(card, b"weights")

    found = context.registry.model("mine")
    assert found is not None
    assert found[0] == card
    assert found[1]() == b"weights"
    row = bench.repository.models.get(TENANT, "mine")
    assert row is not None
    assert row.expires_at == row.created_at + context.settings.model_retention_seconds
    assert context.registry.model("other") is None
    assert context.registry.default_model_id("mask") is None
    assert bench.repository.models.set_default(TENANT, "mask", "mine")
    assert context.registry.default_model_id("mask") == "mine"
    with pytest.raises(ValueError, match="other weights"):
        context.registry.save_model(card, b"others")


def test_a_stopped_job_may_still_register_what_it_has(begin: Begin) -> None:
    context, held = begin()
    held.cancel.set()
    with pytest.raises(Stopped, match="canceled"):
        context.registry.save_model(a_card(b"weights"), b"weights")

    context.registry.save_model(a_card(b"weights"), b"weights", stopped=True)

    assert context.registry.model("mine") is not None
    lost, held = begin()
    held.lease_until = time.monotonic() - 1
    with pytest.raises(Stopped, match="lease lost"):
        lost.registry.save_model(a_card(b"others"), b"others", stopped=True)


def test_a_data_set_is_registered_with_its_pack(bench: Bench, begin: Begin) -> None:
    context, _ = begin()
    dataset_id = new_id("ds")
    card = DatasetCard(id=dataset_id, name="x", layout="classes", classes=("a", "b"), items=())

    for asked, kept in ((60.0, 60.0), (None, context.settings.dataset_retention_seconds)):
        context.registry.save_dataset(card, b"pack", summary={"counts": {}}, keep_seconds=asked)
        row = bench.repository.datasets.get(TENANT, dataset_id)
        assert row is not None
        assert row.expires_at == row.created_at + kept
    assert context.inputs.dataset(dataset_id) == b"pack"
    with pytest.raises(Problem) as caught:
        context.inputs.dataset(new_id("ds"))
    assert caught.value.slug == "unknown-dataset"


def test_whoever_lost_the_lease_registers_nothing(bench: Bench, begin: Begin) -> None:
    context, _ = begin(lease_seconds=-1)
    bench.repository.keeping.reap(max_losses=3, retention_seconds=60, ring_again_seconds=1)
    begin(context.job_id)

    with pytest.raises(Stopped, match="lease lost"):
        context.registry.save_model(a_card(b"weights"), b"weights")
    assert context.registry.model("mine") is None


def a_card(weights: bytes) -> ModelCard:
    """Return the card of a model with these weights."""
    return ModelCard(
        id="mine",
        task="mask",
        architecture="cnn",
        classes=("a", "b"),
        input_size=(32, 32),
        crop_margin=0.2,
        sha256=hashlib.sha256(weights).hexdigest(),
        size=len(weights),
        license="mine",
        training_data={},
        training={},
    )


@pytest.mark.parametrize("said", [None, "ACTIVE"])
def test_threads_of_a_worker_sleep_while_they_wait_unless_told_otherwise(said: str | None) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "TRUE"} | ({"OMP_WAIT_POLICY": said} if said else {})

    loaded = subprocess.run(
        [sys.executable, "-c", "import services.worker.runtime.device"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert f"OMP_WAIT_POLICY = '{said or 'PASSIVE'}'" in loaded.stderr
