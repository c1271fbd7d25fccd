"""The tests' own servers start, survive what tests do to them, and leave no process behind."""

from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from sqlalchemy import create_engine, text

from shared.objects import ObjectStore
from shared.settings import load_settings
from tests.fixtures.process import Server, find_binary
from tests.fixtures.servers import PostgresServer, RedisServer, S3Server

pytestmark = pytest.mark.integration

BUILDERS: list[Callable[[Path], Server]] = [
    RedisServer,
    S3Server,
    lambda directory: PostgresServer(),
]


@pytest.fixture(params=BUILDERS, ids=["redis", "s3", "postgres"])
def build(request: pytest.FixtureRequest) -> Callable[[Path], Server]:
    builder: Callable[[Path], Server] = request.param
    return builder


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_stopped_server_leaves_no_process(
    build: Callable[[Path], Server], tmp_path: Path
) -> None:
    server = build(tmp_path)
    try:
        for end in (server.stop, server.kill):
            server.start()
            family = [psutil.Process(server.pid)]
            family += family[0].children(recursive=True)
            end()
            assert not [process for process in family if _runs(process)]
            assert not server.is_ready()
    finally:
        server.stop()
        if isinstance(server, PostgresServer):
            server.remove()


def test_a_server_stops_when_its_test_fails(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    with pytest.raises(ZeroDivisionError), server:
        raise ZeroDivisionError
    assert not server.is_ready()
    with pytest.raises(RuntimeError, match="does not run"):
        _ = server.pid


def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as first:
        second = RedisServer(tmp_path)
        second.port = first.port
        with pytest.raises(RuntimeError, match=r"(?i)address already in use"):
            second.start()


def test_a_paused_redis_answers_after_it_is_resumed(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        client = redis.Redis.from_url(server.url, socket_timeout=0.3)
        assert client.ping()
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        assert client.ping()
        client.close()


def test_a_paused_server_can_be_stopped(tmp_path: Path) -> None:
    server = RedisServer(tmp_path).start()
    server.pause()
    server.stop()
    assert not server.is_ready()


def test_an_immediate_restart_of_postgres_keeps_what_was_committed() -> None:
    server = PostgresServer()
    try:
        server.start()
        url = server.create_database("kept").replace("+psycopg", "")
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE jobs (id int)")
            connection.execute("INSERT INTO jobs VALUES (7)")
        server.restart(immediate=True)
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT id FROM jobs").fetchall() == [(7,)]
        folder = server.directory
    finally:
        server.remove()
    assert not folder.exists()


def test_a_fresh_database_is_empty_and_speaks_sqlalchemy(fresh_database: str) -> None:
    engine = create_engine(fresh_database)
    with engine.connect() as connection:
        tables = connection.execute(
            text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        ).scalar_one()
    engine.dispose()
    assert tables == 0


def test_a_fresh_bucket_keeps_an_object(fresh_bucket: str, s3_server: S3Server) -> None:
    settings = load_settings(
        objects_url=fresh_bucket,
        s3_endpoint=s3_server.endpoint,
        s3_access_key_id=s3_server.access_key_id,
        s3_secret_access_key=s3_server.secret_access_key,
    )
    store = ObjectStore.from_settings(settings)
    store.put("tenant/photo", b"bytes")
    assert store.get("tenant/photo") == b"bytes"


def test_a_missing_program_skips_here_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-server is not installed"):
        find_binary("no-such-server")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-server is not installed"):
        find_binary("no-such-server")
