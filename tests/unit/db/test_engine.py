"""Connections that a pool kept while their server hung up."""

from sqlalchemy import text
from sqlalchemy.engine import make_url

from shared.db import create_database_engine


def test_connections_that_the_server_closed_are_made_anew(fresh_database: str) -> None:
    engine = create_database_engine(make_url(fresh_database), pool_size=3)
    other = create_database_engine(make_url(fresh_database), pool_size=1)
    backend = text("SELECT pg_backend_pid()")
    held = [engine.connect() for _ in range(3)]
    closed = {connection.scalar(backend) for connection in held}
    for connection in held:
        connection.close()
    with other.begin() as connection:
        for pid in closed:
            connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})

    held = [engine.connect() for _ in range(3)]
    fresh = {connection.scalar(backend) for connection in held}
    for connection in held:
        connection.close()

    assert len(fresh) == 3
    assert not fresh & closed
    with engine.connect() as connection:
        assert connection.scalar(backend) in fresh  # and is kept where nobody hung up
    engine.dispose()
    other.dispose()
