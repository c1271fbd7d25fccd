"""What both brokers promise: a folder, and Redis."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis

from shared.db.queries import new_id
from shared.doorbell import Ring
from shared.doorbell.broker import KEPT_UNREADABLE, Broker
from shared.doorbell.folder import FolderBroker
from shared.doorbell.redis import UNREADABLE, RedisBroker
from tests.fixtures.process import wait_until
from tests.fixtures.servers import RedisServer

pytestmark = [pytest.mark.integration]

ROOT = Path(__file__).resolve().parents[2]
BOTH = ["interactive", "batch"]
ENVELOPE = {"body": "W10=", "headers": {"task": "bauta.look"}, "properties": {}}
GARBAGE = {
    "empty": b"",
    "truncated": new_id("job")[:-1].encode(),
    "too long": new_id("job").encode() + b"0",
    "random bytes": os.urandom(300).replace(b"/", b"x").replace(b"\0", b"y")[:200],
    "truncated JSON": b'{"body": "W1tbXSwge30sIH',
    "another program's message": json.dumps(ENVELOPE).encode(),
    "a path": b"..\\..\\job_0123456789abcdef01234567",
    "upper case": b"JOB_0123456789ABCDEF01234567",
}


@dataclass
class Place:
    """A broker, how another process opens it, and how garbage gets into it."""

    open: Callable[[], Broker]
    url: str
    spoil: Callable[[str, bytes], None]


@pytest.fixture
def folder(tmp_path: Path) -> Place:
    def spoil(queue: str, data: bytes) -> None:
        messages = tmp_path / "messages"
        (messages / secrets.token_hex(4)).write_bytes(data)  # garbage inside, beside the queues
        (messages / queue / f"{secrets.token_hex(4)}.msg").write_bytes(data)  # and in one
        if data:
            _write(os.fsencode(messages / queue) + b"/" + data, data)

    return Place(lambda: FolderBroker(tmp_path), str(tmp_path), spoil)


def _write(path: bytes, data: bytes) -> None:
    Path(os.fsdecode(path)).write_bytes(data)


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Place]:
    url = redis_server.url.removesuffix("0") + "7"
    with Redis.from_url(url) as client:
        client.flushdb()
        yield Place(
            lambda: RedisBroker(url), url, lambda queue, data: _spoil_list(client, queue, data)
        )
        client.flushdb()


def _spoil_list(client: Redis, queue: str, data: bytes) -> None:
    client.rpush(queue, data)
    client.lpush(queue, data)


@pytest.fixture(params=["folder", "redis"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def broker(place: Place) -> Iterator[Broker]:
    opened = place.open()
    yield opened
    opened.close()


def test_what_waited_longest_comes_first_and_once(broker: Broker) -> None:
    ids = [new_id("job") for _ in range(5)]
    for job_id in ids:
        broker.put("interactive", job_id)
        time.sleep(0.01)  # the clock of a file system is coarse

    taken = [broker.take(BOTH, seconds=0.1) for _ in range(6)]

    assert taken == [*(Ring(job_id, "interactive") for job_id in ids), None]


def test_a_ring_that_waits_is_not_repeated(broker: Broker) -> None:
    job_id = new_id("job")
    for _ in range(50):
        broker.put("batch", job_id)
    assert broker.depth("batch") == 1
    assert broker.take(BOTH, seconds=0.1) == Ring(job_id, "batch")
    broker.put("batch", job_id)
    assert broker.depth("batch") == 1, "once taken, it may ring again"


def test_rings_can_be_taken_back(broker: Broker) -> None:
    ids = [new_id("job") for _ in range(4)]
    for job_id in ids:
        broker.put("interactive", job_id)

    broker.drop("interactive", [ids[0], ids[2], new_id("job")])

    left = {broker.take(["interactive"], seconds=0.1) for _ in range(3)}
    assert left == {Ring(ids[1], "interactive"), Ring(ids[3], "interactive"), None}


def test_a_queue_that_nobody_asked_for_is_left_alone(broker: Broker) -> None:
    broker.put("batch", new_id("job"))

    assert broker.take(["interactive"], seconds=0.05) is None
    assert broker.depth("batch") == 1


def test_a_reader_that_waits_is_woken_at_once(broker: Broker) -> None:
    job_id, heard = new_id("job"), threading.Event()
    waits = threading.Thread(target=lambda: broker.take(BOTH, seconds=60) and heard.set())
    waits.start()
    time.sleep(0.2)
    broker.put("batch", job_id)

    assert heard.wait(20)
    waits.join()


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_costs_nothing_but_itself(place: Place, broker: Broker, kind: str) -> None:
    before, after = new_id("job"), new_id("job")
    broker.put("interactive", before)
    place.spoil("interactive", GARBAGE[kind])
    broker.put("interactive", after)
    wrong = broker.depth("interactive") - 2
    assert wrong > 0

    taken = {broker.take(BOTH, seconds=0.1) for _ in range(3)}

    assert taken == {Ring(before, "interactive"), Ring(after, "interactive"), None}
    assert broker.unreadable() >= wrong
    assert broker.depth("interactive") == 0


def test_a_queue_of_nothing_but_garbage_is_cleared_and_little_of_it_kept(
    place: Place, broker: Broker, tmp_path: Path
) -> None:
    for _ in range(KEPT_UNREADABLE + 20):
        place.spoil("batch", b"x")
    assert broker.take(BOTH, seconds=0.5) is None
    assert broker.unreadable() >= KEPT_UNREADABLE + 20
    if isinstance(broker, FolderBroker):
        assert len(list((tmp_path / "unreadable").iterdir())) <= KEPT_UNREADABLE
    else:
        with Redis.from_url(place.url) as client:
            assert client.llen(UNREADABLE) == KEPT_UNREADABLE


CROWD = """
import random, sys
from pathlib import Path
from shared.db.queries import new_id
from shared.doorbell.folder import FolderBroker
from shared.doorbell.redis import RedisBroker
place, role, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
on_redis = place.startswith("redis:")
broker = RedisBroker(place) if on_redis else FolderBroker(Path(place))
if role == "put":
    for number in range(count):
        job_id = new_id("job")
        print(job_id, flush=True)
        broker.put(random.choice(["interactive", "batch"]), job_id)
else:
    while ring := broker.take(["interactive", "batch"], seconds=3):
        print(ring.job_id, flush=True)
"""


def crowd(place: Place, role: str, count: int = 0) -> subprocess.Popen[str]:
    """Start a process that puts so many messages, or takes all it finds, and prints each."""
    return subprocess.Popen(
        [sys.executable, "-c", CROWD, place.url, role, str(count)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def printed(processes: list[subprocess.Popen[str]]) -> list[str]:
    """Return the whole ids that they printed; one that was killed may have printed half a one."""
    lines = [line for process in processes for line in process.communicate(timeout=100)[0].split()]
    return [line for line in lines if len(line) == len(new_id("job"))]


def test_many_processes_put_and_take_each_message_once(place: Place, broker: Broker) -> None:
    takers = [crowd(place, "take") for _ in range(3)]
    putters = [crowd(place, "put", 300) for _ in range(3)]

    put, taken = printed(putters), printed(takers)

    assert [process.returncode for process in putters + takers] == [0] * 6
    assert len(put) == 900
    assert sorted(taken) == sorted(put)
    assert broker.unreadable() == 0


def test_processes_killed_in_the_middle_leave_nothing_broken(place: Place, broker: Broker) -> None:
    takers = [crowd(place, "take") for _ in range(2)]
    putters = [crowd(place, "put", 1_000_000) for _ in range(2)]
    time.sleep(3)
    for process in putters + takers:
        process.kill()

    put, taken = set(printed(putters)), printed(takers)
    while ring := broker.take(BOTH, seconds=0.1):
        taken.append(ring.job_id)

    assert len(taken) == len(set(taken)), "no message was taken twice"
    assert set(taken) <= put
    # Each killed process may have died with one in hand, taken but not printed, or not yet put.
    assert len(put) - len(taken) <= 4
    assert broker.unreadable() == 0
    broker.put("batch", new_id("job"))
    assert broker.take(BOTH, seconds=0.1) is not None


def test_what_is_no_list_does_not_block_a_queue(redis: Place) -> None:
    broker = redis.open()
    with Redis.from_url(redis.url) as client:
        client.set("interactive", "a string")
        assert broker.take(BOTH, seconds=0.1) is None
        client.set("interactive", "again")
        broker.put("interactive", new_id("job"))
    assert broker.take(BOTH, seconds=0.1) is not None
    assert broker.unreadable() == 2
    broker.close()


def test_a_server_that_forgot_everything_is_served_on(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        broker = RedisBroker(server.url)
        broker.put("batch", new_id("job"))
        server.kill()
        with pytest.raises(Exception, match=r"refused|closed|reset|network"):
            broker.put("batch", new_id("job"))
        server.start()
        job_id = new_id("job")
        broker.put("batch", job_id)
        assert broker.take(BOTH, seconds=0.1) == Ring(job_id, "batch")
        broker.close()


def test_folders_and_links_among_the_files_are_set_aside(tmp_path: Path) -> None:
    broker = FolderBroker(tmp_path)
    queue = tmp_path / "messages" / "batch"
    (queue / new_id("job")).mkdir()
    (queue / new_id("job")).symlink_to("/etc/passwd")
    full = queue / new_id("job")
    full.mkdir()
    (full / "a").write_text("b")
    job_id = new_id("job")
    broker.put("batch", job_id)

    assert broker.take(BOTH, seconds=0.1) == Ring(job_id, "batch")
    assert broker.take(BOTH, seconds=0.05) is None
    assert broker.unreadable() == 3


def test_a_folder_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    broker = FolderBroker(tmp_path / "broker")
    shutil.rmtree(tmp_path / "broker")
    job_id = new_id("job")
    broker.put("batch", job_id)

    assert broker.take(BOTH, seconds=0.1) == Ring(job_id, "batch")
    shutil.rmtree(tmp_path / "broker")
    assert broker.take(BOTH, seconds=0.1) is None


def test_without_named_pipes_a_reader_still_hears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: object) -> None:
        raise PermissionError("the file system has none")

    monkeypatch.setattr(os, "mkfifo", cannot)
    broker = FolderBroker(tmp_path)
    heard: list[Ring | None] = []
    waits = threading.Thread(target=lambda: heard.append(broker.take(BOTH, seconds=30)))
    waits.start()
    job_id = new_id("job")
    broker.put("interactive", job_id)
    wait_until(lambda: bool(heard), seconds=20, what="the message to be heard")
    waits.join()

    assert heard == [Ring(job_id, "interactive")]
