"""SQLite on the disk: what is deleted is gone from its files, and a full disk can be emptied."""

import errno
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from shared.db import Repository, create_database_engine
from shared.db.disk import RESERVE_BYTES, Reserve, is_full
from shared.db.migrate import upgrade
from shared.db.tables import Job
from tests.unit.db.conftest import HOUR, TENANT, Create, new_image
from tests.unit.db.test_models_and_datasets import save_dataset, save_model

Claim = Callable[..., Job | None]
FULL = OperationalError("", {}, sqlite3.OperationalError("database or disk is full"))
SECRET = "Frieda-Geheim"  # a person, as a folder's name


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    """An empty database on SQLite, whatever the other tests of this folder run on."""
    engine = create_database_engine(make_url(f"sqlite:///{tmp_path / 'bauta.db'}"), pool_size=10)
    upgrade(engine)
    yield Repository(engine)
    engine.dispose()


def on_disk(folder: Path) -> set[str]:
    """Return the names of the database's files that hold the secret."""
    return {path.name for path in folder.iterdir() if SECRET.encode() in path.read_bytes()}


def test_names_and_keys_are_gone_from_every_file_after_their_deletion(
    repository: Repository, create: Create, claim: Claim, tmp_path: Path
) -> None:
    job = claim(create(idempotency_key=f"{SECRET}-1", fingerprint="f").id)
    assert job is not None
    dataset = save_dataset(repository, job, classes=(SECRET, "b"), name=SECRET)
    assert dataset is not None
    repository.claims.progress(job.id, 1, {"done": 1, "total": 2, "message": f"{SECRET}/1.jpg"})
    result = {"left_out": [f"{SECRET}/{number}.jpg" for number in range(500)]}
    repository.claims.finish(job.id, 1, state="succeeded", retention_seconds=HOUR, result=result)
    kept = create(idempotency_key="kept", fingerprint="f")
    assert on_disk(tmp_path)

    repository.datasets.delete(TENANT, dataset.id)
    repository.jobs.purge(TENANT, job.id)
    assert repository.keeping.empty_log()

    assert on_disk(tmp_path) == set()
    with closing(sqlite3.connect(tmp_path / "bauta.db")) as outside:
        assert outside.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert repository.jobs.get(TENANT, kept.id) is not None


def test_what_expires_is_gone_from_every_file_too(
    repository: Repository, create: Create, tmp_path: Path
) -> None:
    create(idempotency_key=f"{SECRET}-1", fingerprint="f", retention_seconds=-1)
    assert on_disk(tmp_path)

    assert repository.keeping.expire_jobs() == 1
    repository.keeping.expire_idempotency_keys()
    assert repository.keeping.empty_log()

    assert on_disk(tmp_path) == set()


def test_a_log_that_somebody_reads_is_emptied_later(
    repository: Repository, create: Create, tmp_path: Path
) -> None:
    job = create(idempotency_key=f"{SECRET}-1", fingerprint="f")
    with closing(sqlite3.connect(tmp_path / "bauta.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM jobs").fetchone()
        repository.jobs.purge(TENANT, job.id)
        assert not repository.keeping.empty_log()
        reader.execute("ROLLBACK")

    assert repository.keeping.empty_log()
    assert on_disk(tmp_path) == set()


class FullDisk:
    """Refuses every write as SQLite does, until the reserve was given up."""

    def __init__(self, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = True
        event.listen(repository.engine, "before_cursor_execute", self._refuse)
        monkeypatch.setattr(Reserve, "release", self._release)

    def _refuse(self, connection: object, cursor: object, statement: str, *rest: object) -> None:
        if self.is_full and statement.split(maxsplit=1)[0] in ("INSERT", "UPDATE", "DELETE"):
            raise FULL

    def _release(self) -> None:
        self.is_full = False


@pytest.mark.parametrize("what", ["cancel", "image", "job", "dataset", "model", "key", "expiry"])
def test_everything_can_be_deleted_on_a_full_disk(
    repository: Repository,
    create: Create,
    claim: Claim,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    image = new_image()
    repository.images.create(TENANT, image, retention_seconds=HOUR)
    job, past = claim(create().id), create(retention_seconds=-1)
    assert job is not None
    dataset = save_dataset(repository, job)
    assert dataset is not None
    save_model(repository, job)
    key, _ = repository.keys.create(TENANT)
    deletions: dict[str, Callable[[], object]] = {
        "cancel": lambda: repository.jobs.cancel(TENANT, past.id),
        "image": lambda: repository.images.delete(TENANT, image.id),
        "job": lambda: repository.jobs.purge(TENANT, job.id),
        "dataset": lambda: repository.datasets.delete(TENANT, dataset.id),
        "model": lambda: repository.models.delete(TENANT, "mine"),
        "key": lambda: repository.keys.revoke(key.id),
        "expiry": repository.keeping.expire_jobs,
    }
    disk = FullDisk(repository, monkeypatch)
    with pytest.raises(OperationalError, match="full"):
        create()
    assert disk.is_full, "what is not a deletion is not given the reserve"

    assert deletions[what]()

    assert not disk.is_full


def test_a_deletion_that_finds_no_space_even_so_says_it(
    repository: Repository, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = create()
    FullDisk(repository, monkeypatch)
    monkeypatch.setattr(Reserve, "release", lambda reserve: None)

    with pytest.raises(OperationalError, match="full"):
        repository.jobs.purge(TENANT, job.id)


def test_the_reserve_is_real_space_and_leaves_the_disk_enough(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = repository.keeping.reserve
    assert reserve.path is not None
    monkeypatch.setattr(
        "shutil.disk_usage", lambda folder: SimpleNamespace(free=RESERVE_BYTES + 999)
    )
    reserve.hold(free_bytes=1000)
    assert not reserve.path.exists()

    reserve.hold(free_bytes=999)

    assert reserve.path.stat().st_blocks * 512 >= RESERVE_BYTES
    assert sorted(path.name for path in tmp_path.iterdir() if "reserve" in path.name) == [
        "bauta.db-reserve"
    ]
    reserve.release()
    reserve.release()
    assert not reserve.path.exists()


def test_a_full_disk_is_told_from_other_errors() -> None:
    def said(text: str) -> OperationalError:
        return OperationalError("", {}, sqlite3.OperationalError(text))

    assert is_full(said("database or disk is full"))
    assert is_full(OSError(errno.ENOSPC, "No space left on device"))
    assert is_full(OSError(errno.EDQUOT, "Disk quota exceeded"))
    assert not is_full(said("database is locked"))
    assert not is_full(OSError(errno.EACCES, "Permission denied"))
