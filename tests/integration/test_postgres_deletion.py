"""What deleted rows leave in Postgres' files, and what takes it out: docs/deployment.md says so."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from tests.fixtures.servers import PostgresServer

pytestmark = pytest.mark.integration

SECRET = "Frieda-Geheim"
OTHER = "somebody else"
SWITCHES = 6  # of the log's segments: what holds a row is used again, or removed, before


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A cluster of the test's own: its files are read."""
    own = PostgresServer(durable=True)
    try:
        own.start()
        yield own
    finally:
        own.remove()


def found_in(server: PostgresServer, folder: str) -> int:
    files = (path for path in (server.directory / "data" / folder).rglob("*") if path.is_file())
    return sum(path.read_bytes().count(SECRET.encode()) for path in files)


def test_deleted_rows_are_in_the_files_until_tables_are_rewritten_and_the_log_moves_on(
    server: PostgresServer,
) -> None:
    url = server.url.replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:

        def settle(command: str = "CHECKPOINT") -> None:
            connection.execute(sql.SQL(command))  # type: ignore[arg-type]
            connection.execute("CHECKPOINT")

        connection.execute("CREATE TABLE jobs (id int PRIMARY KEY, spec json)")
        for number in range(1000):
            name = SECRET if number % 2 else OTHER
            connection.execute(
                "INSERT INTO jobs VALUES (%s, json_build_object('name', %s::text))", (number, name)
            )
        connection.execute("DELETE FROM jobs WHERE id % 2 = 1")
        settle()
        assert found_in(server, "base") == 500

        settle("VACUUM jobs")
        assert 0 < found_in(server, "base") < 500, "free for new rows, and not overwritten"
        settle("VACUUM FULL jobs")
        assert found_in(server, "base") == 0
        assert found_in(server, "pg_wal") > 0

        for number in range(SWITCHES):
            connection.execute("INSERT INTO jobs VALUES (%s, NULL)", (2000 + number,))
            settle("SELECT pg_switch_wal()")

    assert found_in(server, "") == 0
