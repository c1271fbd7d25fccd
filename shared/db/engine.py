"""Engines for SQLite and Postgres with the same transaction semantics."""

import select
import sqlite3
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DisconnectionError, InterfaceError, OperationalError, TimeoutError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Double

from shared.text import dumps, loads

BUSY_SECONDS = 15
# Every transaction here is short. One that does nothing belongs to a process that is frozen, and is
# ended by the server while whoever waits for its locks still waits.
IDLE_IN_TRANSACTION_SECONDS = 5
LOCK_SECONDS = 10
STATEMENT_SECONDS = 20
# A peer that vanished without a word, as a machine does that lost its power.
KEEPALIVE_IDLE_SECONDS = 10
KEEPALIVE_INTERVAL_SECONDS = 5
KEEPALIVES = 3
VANISHED_SECONDS = 25

# What a database raises that does not answer (now): the same call may succeed later.
OUTAGES = (OperationalError, InterfaceError, TimeoutError)


class db_now(FunctionElement[float]):
    """The database's clock, seconds since the epoch: leases compare one clock, not many."""

    type = Double()
    inherit_cache = True


@compiles(db_now, "postgresql")
def _now_postgres(element: Any, compiler: Any, **options: Any) -> str:
    del element, compiler, options
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"


@compiles(db_now, "sqlite")
def _now_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    del element, compiler, options
    return "((julianday('now') - 2440587.5) * 86400.0)"


def create_database_engine(url: URL, *, pool_size: int = 5) -> Engine:
    """Create an engine. On SQLite: WAL, synchronous NORMAL, immediate write transactions.

    What SQLite deletes it overwrites (``secure_delete``).
    """
    if url.get_backend_name() == "postgresql":
        engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=10,
            json_serializer=dumps,
            json_deserializer=loads,
            connect_args=_postgres_arguments(),
        )
        event.listen(engine, "checkout", _refuse_closed)
        return engine
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        json_serializer=dumps,
        json_deserializer=loads,
        connect_args={"timeout": BUSY_SECONDS},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgres_arguments() -> dict[str, Any]:
    """Return the arguments of a connection: how long either side waits for what."""
    server = {
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_SECONDS}s",
        "lock_timeout": f"{LOCK_SECONDS}s",
        "statement_timeout": f"{STATEMENT_SECONDS}s",
        "tcp_keepalives_idle": KEEPALIVE_IDLE_SECONDS,
        "tcp_keepalives_interval": KEEPALIVE_INTERVAL_SECONDS,
        "tcp_keepalives_count": KEEPALIVES,
        "tcp_user_timeout": VANISHED_SECONDS * 1000,
    }
    return {
        "connect_timeout": 5,
        "keepalives": 1,
        "keepalives_idle": KEEPALIVE_IDLE_SECONDS,
        "keepalives_interval": KEEPALIVE_INTERVAL_SECONDS,
        "keepalives_count": KEEPALIVES,
        "tcp_user_timeout": VANISHED_SECONDS * 1000,
        "options": " ".join(f"-c {name}={value}" for name, value in server.items()),
    }


def reading(engine: Engine) -> Engine:
    """Return the same engine for transactions that only read.

    On Postgres each statement of them is one by itself: two round trips fewer, and at its usual
    isolation ("read committed") every statement sees the newest rows either way.
    """
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="AUTOCOMMIT")
    return engine.execution_options(bauta_read_only=True)


def _refuse_closed(connection: psycopg.Connection[Any], record: Any, proxy: Any) -> None:
    """Make the pool connect anew where the server has hung up, as after its restart.

    Nothing is asked of the server, unlike with ``pool_pre_ping``, which costs a round trip each
    time: an idle connection that has something to read has been closed.
    """
    del record, proxy
    if connection.closed:
        raise DisconnectionError("this connection was closed")
    waiting = select.poll()  # and not select(): a busy API has more than 1,024 open files
    waiting.register(connection.fileno(), select.POLLIN)
    if waiting.poll(0):
        raise DisconnectionError("the server has closed this connection")


def _prepare_sqlite(connection: sqlite3.Connection, record: Any) -> None:
    del record
    connection.isolation_level = None  # the begin event below opens transactions
    pragmas = ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "secure_delete=ON")
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that starts as a reader and then writes fails at once when another writer
    # came between; one that will write takes the lock first and waits its turn instead.
    read_only = connection.get_execution_options().get("bauta_read_only")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def first_line(error: Exception) -> str:
    """Return the part of a database's error that belongs in a log: no statement, no values."""
    return str(getattr(error, "orig", None) or error).strip().split("\n", 1)[0]
