"""The keeper's rounds: what one duty meets does not keep it from the others."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from services.keeper.keeper import SLOW_ROUNDS, Keeper, repeat
from shared.db import Repository, create_database_engine
from shared.db.jobs import NewJob
from shared.db.migrate import upgrade
from shared.db.queries import new_id
from shared.db.tables import Sweep
from shared.objects import ObjectStore, ObjectStoreUnavailableError
from shared.settings import Settings
from shared.specs.classify import ClassifySpec
from tests.claiming import claim
from tests.unit.db.conftest import TENANT, new_image


class Bell:
    """A doorbell whose broker may be dead, and whose rings may stay unheard."""

    def __init__(self) -> None:
        self.rung: list[str] = []
        self.waiting: set[str] = set()
        self.dead = False

    def ring(self, job_id: str, queue: str) -> bool:
        if not self.dead:
            self.rung.append(job_id)
            self.waiting.add(job_id)
        return not self.dead

    def depth(self, queue: str) -> int:
        if self.dead:
            raise ConnectionError("connection refused")
        return len(self.waiting) if queue == "interactive" else 0


class House:
    """A keeper with what it keeps."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder)
        self.engine = create_database_engine(self.settings.database)
        upgrade(self.engine)
        self.repository = Repository(self.engine)
        self.objects = ObjectStore.from_settings(self.settings)
        self.bell = Bell()
        self.keeper = Keeper(self.settings, self.repository, self.objects, cast(Any, self.bell))

    def create(self) -> str:
        photo = new_image()
        self.objects.put(photo.object_key, b"photo")
        job, _ = self.repository.jobs.create(
            NewJob(
                id=new_id("job"),
                tenant_id=TENANT,
                spec=ClassifySpec(images=(photo.id,)),
                images=[photo],
            ),
            max_queued=1000,
            retention_seconds=3600,
            ring_again_seconds=0,
        )
        return job.id

    def keys(self) -> list[str]:
        return list(self.objects.keys(f"{TENANT}/"))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path)
    yield found
    found.engine.dispose()


def test_rings_for_waiting_jobs_and_for_reaped_ones(house: House) -> None:
    waiting, lost = house.create(), house.create()
    claim(house.repository, lost, owner="dead", lease_seconds=-1)

    assert house.keeper.round()
    assert house.bell.rung == [lost], "whoever hears it finds the other, too"
    house.bell.waiting.clear()
    assert house.keeper.round()

    assert house.bell.rung == [lost, waiting]


def test_a_dead_broker_costs_no_job_its_turn(house: House) -> None:
    job_id = house.create()
    house.bell.dead = True
    assert not house.keeper.round()
    assert not house.keeper.round()
    house.bell.dead = False

    assert house.keeper.round()

    assert house.bell.rung == [job_id]


def test_a_ring_that_waits_is_not_repeated_and_one_that_was_lost_is(house: House) -> None:
    jobs = [house.create() for _ in range(3)]
    for _ in range(20):
        assert house.keeper.round()
    assert sorted(house.bell.rung) == sorted(jobs)

    house.bell.waiting.clear()
    assert house.keeper.round()

    assert sorted(house.bell.rung) == sorted(jobs + jobs)


def test_reaps_when_ringing_fails(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = house.create()
    claim(house.repository, lost, owner="dead", lease_seconds=-1)

    def broken(queue: str) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(house.repository.keeping, "overdue", broken)

    assert not house.keeper.round()

    job = house.repository.jobs.get(TENANT, lost)
    assert job is not None
    assert (job.state, job.losses) == ("queued", 1)


def test_sweeps_what_was_deleted(house: House) -> None:
    job_id = house.create()
    house.objects.put(f"{TENANT}/jobs/{job_id}/1/a.txt", b"a")
    kept = house.create()
    house.repository.jobs.purge(TENANT, job_id)

    assert house.keeper.clean()

    assert house.repository.jobs.get(TENANT, kept) is not None
    assert len(house.keys()) == 1


def test_one_object_is_swept_and_its_neighbors_stay(house: House) -> None:
    house.objects.put(f"{TENANT}/jobs/job_1/1/a.jpg", b"a")
    house.objects.put(f"{TENANT}/jobs/job_1/1/b.jpg", b"b")
    with house.repository.keeping._write() as session:
        session.add(Sweep(tenant_id=TENANT, prefix=f"{TENANT}/jobs/job_1/1/a.jpg", due_at=0.0))

    assert house.keeper.clean()

    assert house.keys() == [f"{TENANT}/jobs/job_1/1/b.jpg"]


def test_a_round_after_a_deletion_nothing_of_it_is_on_the_disk(
    house: House, tmp_path: Path
) -> None:
    job_id = house.create()
    name = b"Frieda-Geheim.jpg"
    job = claim(house.repository, job_id)
    assert job is not None
    result = {"left_out": [name.decode()]}
    house.repository.claims.finish(
        job_id, job.fence, state="succeeded", retention_seconds=60, result=result
    )
    house.objects.put(f"{TENANT}/jobs/{job_id}/1/{name.decode()}", name)
    house.repository.jobs.purge(TENANT, job_id)

    assert house.keeper.clean()

    assert [p for p in tmp_path.rglob("*") if p.is_file() and name in p.read_bytes()] == []
    assert not [path for path in tmp_path.rglob("*") if name.decode() in path.name]


def test_the_keeper_holds_space_back_and_again_after_it_was_given_up(house: House) -> None:
    reserve = house.repository.keeping.reserve.path
    assert reserve is not None
    for _ in range(2):
        for _ in range(SLOW_ROUNDS):
            assert house.keeper.clean()
        assert reserve.exists()
        reserve.unlink()


def test_a_prefix_that_cannot_be_deleted_does_not_keep_the_others(house: House) -> None:
    with house.repository.keeping._write() as session:
        session.add(Sweep(tenant_id=TENANT, prefix="../elsewhere/", due_at=0.0))
    job_id = house.create()
    house.repository.jobs.purge(TENANT, job_id)

    house.keeper.clean()

    assert house.keys() == []


def test_a_dead_object_store_is_tried_again_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.repository.jobs.purge(TENANT, house.create())

    def dead(prefix: str) -> int:
        raise ObjectStoreUnavailableError("503")

    with monkeypatch.context() as patch:
        patch.setattr(house.objects, "delete_prefix", dead)
        assert not house.keeper.clean()
    assert house.keeper.clean()

    assert house.keys() == []


def test_repeats_until_told_to_stop_and_shows_its_health(tmp_path: Path) -> None:
    stop, health = threading.Event(), tmp_path / "health"
    outcomes = [False, True, False]
    seen: list[bool] = []

    def do() -> bool:
        seen.append(health.exists())
        if not outcomes:
            stop.set()
            return True
        return outcomes.pop(0)

    repeat(do, every_seconds=0.001, stop=stop, health_file=health)

    assert seen == [False, False, True, True]
