"""One behavior on every store: whole objects, typed errors, nothing left behind."""

import asyncio
import errno
import http.server
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.objects import (
    CHUNK,
    ObjectMissingError,
    ObjectStore,
    ObjectStoreFullError,
    ObjectStoreUnavailableError,
)
from shared.settings import Settings
from tests.fixtures.process import HOST, free_port
from tests.fixtures.servers import S3Server


def _local(root: Path) -> ObjectStore:
    return ObjectStore.from_settings(Settings(objects_url=root.as_uri()))


def _s3(url: str, endpoint: str) -> ObjectStore:
    return ObjectStore.from_settings(
        Settings(
            objects_url=url,
            s3_endpoint=endpoint,
            s3_access_key_id=S3Server.access_key_id,
            s3_secret_access_key=S3Server.secret_access_key,
        )
    )


@pytest.fixture(
    params=[
        "local",
        pytest.param("s3", marks=pytest.mark.integration),
        pytest.param("s3 under a prefix", marks=pytest.mark.integration),
    ]
)
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "local":
        return _local(tmp_path / "new folder" / "objects")
    bucket = request.getfixturevalue("fresh_bucket")
    suffix = "/a/prefix" if "prefix" in request.param else ""
    endpoint = request.getfixturevalue("s3_server").endpoint
    return _s3(bucket + suffix, endpoint)


def _read(objects: ObjectStore, key: str, start: int, end: int) -> list[bytes]:
    async def read() -> list[bytes]:
        return [piece async for piece in objects.stream(key, start, end)]

    return asyncio.run(read())


def test_an_object_comes_back_as_it_was_stored(objects: ObjectStore) -> None:
    for data in (b"", b"\0\xff" * 500):
        objects.put("tenant/images/1", data)
        assert objects.get("tenant/images/1") == data
        assert objects.head("tenant/images/1").size == len(data)


def test_an_object_of_many_megabytes_comes_back(objects: ObjectStore) -> None:
    data = os.urandom(2**20) * 40
    objects.put("tenant/models/large", data)
    assert objects.get("tenant/models/large") == data


def test_a_stream_is_exactly_the_range_in_small_pieces(objects: ObjectStore) -> None:
    data = os.urandom(2 * CHUNK + 77)
    objects.put("tenant/object", data)
    whole = _read(objects, "tenant/object", 0, len(data))
    assert b"".join(whole) == data
    assert max(map(len, whole)) <= CHUNK
    assert b"".join(_read(objects, "tenant/object", 5, CHUNK + 9)) == data[5 : CHUNK + 9]
    assert _read(objects, "tenant/object", 7, 7) == []


def test_a_missing_object_is_told_apart(objects: ObjectStore) -> None:
    for ask in (objects.get, objects.head, lambda key: _read(objects, key, 0, 10)):
        with pytest.raises(ObjectMissingError):
            ask("tenant/nothing")
    objects.delete("tenant/nothing")
    assert objects.delete_prefix("tenant/nothing/") == 0


def test_a_prefix_ends_at_its_slash(objects: ObjectStore) -> None:
    keys = ["t/jobs/1/1/a.png", "t/jobs/1/2/b.png", "t/jobs/10/1/a.png", "t/jobs/1x"]
    for key in keys:
        objects.put(key, b"x")
    assert sorted(objects.keys("t/jobs/1/")) == keys[:2]
    assert objects.delete_prefix("t/jobs/1/") == 2
    assert sorted(objects.keys("t/")) == sorted(keys[2:])
    with pytest.raises(ValueError, match="slash"):
        objects.delete_prefix("t/jobs/1")


def test_a_deleted_object_is_missing(objects: ObjectStore) -> None:
    objects.put("t/a", b"x")
    objects.put("t/b", b"y")
    objects.delete("t/a")
    assert list(objects.keys("t/")) == ["t/b"]


@pytest.mark.parametrize(
    "key",
    ["", "/a", "a/", "a//b", "../a", "a/../../b", "./a", "a\\b", "a\0b", "a\nb", "a#1", "a" * 1025],
)
def test_a_key_that_leads_elsewhere_is_refused(objects: ObjectStore, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        objects.put(key, b"x")
    with pytest.raises(ValueError, match="not a key"):
        objects.get(key)


def test_a_store_that_answers_passes_its_check(objects: ObjectStore) -> None:
    objects.check()
    objects.put("t/a", b"x")
    objects.check()


# The local folder


def test_an_emptied_folder_is_gone_but_never_the_root(tmp_path: Path) -> None:
    objects = _local(tmp_path / "objects")
    objects.put("t/jobs/1/1/a", b"x")
    objects.delete_prefix("t/jobs/1/")
    assert list((tmp_path / "objects/t/jobs").iterdir()) == []
    objects.put("alone", b"x")
    objects.delete("alone")
    objects.check()


def test_halves_left_by_a_killed_writer_are_deleted_with_their_object(tmp_path: Path) -> None:
    objects = _local(tmp_path)
    for key in ("t/images/1", "t/jobs/1/1/a"):
        objects.put(key, b"whole")
        (tmp_path / f"{key}#1").write_bytes(b"ha")
    (tmp_path / "t/jobs/1/2").mkdir()
    (tmp_path / "t/jobs/1/2/b#1").write_bytes(b"ha")  # its object was never finished
    (tmp_path / "t/images/10#1").write_bytes(b"another's")
    assert sorted(objects.keys("t/")) == ["t/images/1", "t/jobs/1/1/a"]

    objects.delete("t/images/1")
    assert objects.delete_prefix("t/jobs/1/") == 1
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert left == [tmp_path / "t/images/10#1"]


def test_put_returns_when_the_object_and_its_name_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Path] = []
    flush = os.fsync

    def watch(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    _local(tmp_path).put("t/images/1", b"x")
    assert flushed == [tmp_path / "t/images/1", tmp_path / "t/images", tmp_path / "t", tmp_path]

    flushed.clear()
    _local(tmp_path).put_all({"t/images/2/a": b"x", "t/images/3/a": b"y"})
    objects = [tmp_path / "t/images/2/a", tmp_path / "t/images/3/a"]
    folders = [tmp_path / "t/images/2", tmp_path / "t/images/3"]
    assert set(flushed[:2]) == set(objects)
    assert set(flushed[2:4]) == set(folders)
    assert flushed[4:] == [tmp_path / "t/images", tmp_path / "t", tmp_path]


def test_a_full_disk_is_told_apart_and_leaves_no_half(tmp_path: Path) -> None:
    with _tiny_disk(tmp_path) as root:
        objects = _local(root)
        objects.put("t/small", b"x" * 1000)
        with pytest.raises(ObjectStoreFullError):
            objects.put("t/large", b"x" * 500_000)
        with pytest.raises(ObjectStoreFullError):
            objects.put_with_patience("t/large", b"x" * 500_000, seconds=60)
        assert list(objects.keys("t/")) == ["t/small"]
        objects.put("t/other", b"x" * 1000)


class _tiny_disk:
    """A file system of 64 KiB; without the right to mount one, a limit on the size of files."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._mounted = False

    def __enter__(self) -> Path:
        self._mounted = (
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=64k", "none", self._root], check=False
            ).returncode
            == 0
        )
        if not self._mounted:
            import resource
            import signal

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, self._limits[1]))
        return self._root

    def __exit__(self, *_: object) -> None:
        if self._mounted:
            subprocess.run(["umount", self._root], check=True)
            return
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)


def test_a_folder_that_vanished_is_a_dead_store_not_a_missing_object(tmp_path: Path) -> None:
    root = tmp_path / "objects"
    objects = _local(root)
    root.rmdir()
    for ask in (objects.check, lambda: objects.get("t/a"), lambda: objects.head("t/a")):
        with pytest.raises(ObjectStoreUnavailableError):
            ask()


def test_writers_and_sweepers_do_not_trip_over_each_other(tmp_path: Path) -> None:
    """Folders vanish with their prefix, while other threads write beside them."""
    objects = _local(tmp_path)
    failures: list[BaseException] = []

    def churn(name: str) -> None:
        try:
            for _ in range(100):
                objects.put(f"t/images/{name}", b"x")
                objects.put(f"t/jobs/{name}/1/a", b"x")
                objects.delete(f"t/images/{name}")
                objects.delete_prefix(f"t/jobs/{name}/")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=churn, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# S3


@pytest.mark.integration
def test_a_missing_bucket_is_a_dead_store_not_a_missing_object(s3_server: S3Server) -> None:
    objects = _s3("s3://no-such-bucket", s3_server.endpoint)
    for ask in (
        objects.check,
        lambda: objects.get("t/a"),
        lambda: objects.put("t/a", b"x"),
        lambda: list(objects.keys("t/")),
    ):
        with pytest.raises(ObjectStoreUnavailableError):
            ask()


def _every_call(objects: ObjectStore) -> list[Callable[[], object]]:
    return [
        objects.check,
        lambda: objects.put("t/a", b"x"),
        lambda: objects.get("t/a"),
        lambda: objects.head("t/a"),
        lambda: objects.delete("t/a"),
        lambda: list(objects.keys("t/")),
        lambda: _read(objects, "t/a", 0, 5),
    ]


def test_a_dead_server_is_given_up_on() -> None:
    for call in _every_call(_s3("s3://bucket", f"http://{HOST}:{free_port()}")):
        with pytest.raises(ObjectStoreUnavailableError):
            call()


def test_a_server_that_takes_connections_and_never_answers_fails_the_check() -> None:
    with socket.create_server((HOST, 0)) as server:
        objects = _s3("s3://bucket", f"http://{HOST}:{server.getsockname()[1]}")
        with pytest.raises(ObjectStoreUnavailableError):
            objects.check()


class _Answers(http.server.BaseHTTPRequestHandler):
    """Answers every request with the server's ``status`` and ``body``."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        server = self.server
        assert isinstance(server, _AnsweringServer)
        self.send_response(server.status)
        self.send_header("content-length", str(len(server.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(server.body)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _answer

    def log_message(self, format: str, *args: object) -> None:
        pass


class _AnsweringServer(http.server.ThreadingHTTPServer):
    status = 500
    body = b""


@pytest.fixture
def answering() -> Iterator[_AnsweringServer]:
    with _AnsweringServer((HOST, 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [403, 500, 503])
def test_a_refusing_or_failing_server_is_unavailable(
    answering: _AnsweringServer, status: int
) -> None:
    answering.status = status
    objects = _s3("s3://bucket", f"http://{HOST}:{answering.server_port}")
    for call in _every_call(objects):
        with pytest.raises(ObjectStoreUnavailableError):
            call()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, b"<Error><Code>QuotaExceeded</Code><Message>Over quota.</Message></Error>"),
        (403, b"<Error><Message>Bucket size quota is reached, maximum</Message></Error>"),
        (507, b"<Error><Code>XMinioStorageFull</Code><Message>No drive space.</Message></Error>"),
        (507, b"<Error><Code>InsufficientStorage</Code></Error>"),
    ],
)
def test_a_server_without_space_is_full(
    answering: _AnsweringServer, status: int, body: bytes
) -> None:
    answering.status, answering.body = status, body
    objects = _s3("s3://bucket", f"http://{HOST}:{answering.server_port}")
    with pytest.raises(ObjectStoreFullError):
        objects.put("t/a", b"x")


@pytest.mark.integration
def test_patience_outlasts_a_restart(tmp_path: Path) -> None:
    with S3Server(tmp_path) as server:
        objects = _s3(server.create_bucket("bucket"), server.endpoint)
        server.kill()

        def restart() -> None:
            server.start()
            server.create_bucket("bucket")

        thread = threading.Thread(target=restart)
        thread.start()
        objects.put_with_patience("t/a", b"x", seconds=60)
        thread.join()
        assert objects.get("t/a") == b"x"


def test_patience_ends(answering: _AnsweringServer) -> None:
    objects = _s3("s3://bucket", f"http://{HOST}:{answering.server_port}")
    with pytest.raises(ObjectStoreUnavailableError):
        objects.put_with_patience("t/a", b"x", seconds=0.3)


def test_a_disk_that_fills_up_while_flushing_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ObjectStoreFullError):
        _local(tmp_path).put("t/a", b"x")
