"""How the watcher learns of commits: SQLite's data version, Postgres' notifications."""

import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import psycopg

from shared.db import Repository
from shared.db.statements import CHANNEL

SQLITE_POLL_SECONDS = 0.008
SAFETY_SECONDS = 1.0

# Told of each event that a source hears of: job's id, the event's number, its name. Answers whether
# the database has to be asked.
Hear = Callable[[str, int, str], bool]


class ChangeSource(Protocol):
    """Follows the database."""

    def changed(self, hear: Hear) -> bool:
        """Wait a moment; return whether a commit requires a look at the database."""

    def interrupt(self) -> None:
        """End a wait that another thread is in."""

    def close(self) -> None:
        """Give the connection back."""


class SqliteSource:
    """Polls the data version of one SQLite connection."""

    def __init__(self, repository: Repository) -> None:
        # Straight to the driver: asked a hundred times a second, SQLAlchemy's part would be most
        # of what a waiting client costs.
        self._connection = repository.engine.raw_connection()
        self._cursor = self._connection.cursor()
        self._version: int | None = None

    def changed(self, hear: Hear) -> bool:
        """Wait a moment; whether anything was committed since the last look."""
        del hear  # its version says that something was committed, not what
        time.sleep(SQLITE_POLL_SECONDS)
        self._cursor.execute("PRAGMA data_version")
        row = self._cursor.fetchone()
        before, self._version = self._version, row[0] if row else None
        return self._version != before

    def interrupt(self) -> None:
        """Do nothing: its waits are short enough."""

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()


class PostgresSource:
    """Listens to the notifications that each event of a job sends."""

    def __init__(self, repository: Repository) -> None:
        connection = repository.engine.raw_connection()
        driver = connection.driver_connection
        if not isinstance(driver, psycopg.Connection):
            raise TypeError("the Postgres driver is not psycopg")
        connection.detach()
        self._connection = driver
        self._connection.rollback()
        self._connection.autocommit = True
        self._connection.execute(f"LISTEN {CHANNEL}")
        self._interruptions, self._interrupter = socket.socketpair()
        self._interrupter.setblocking(False)

    def changed(self, hear: Hear) -> bool:
        """Wait for notifications; whether one of them requires a look at the database."""
        heard, interrupted = self._connection.fileno(), self._interruptions.fileno()
        ready, _, _ = select.select((heard, interrupted), (), (), SAFETY_SECONDS)
        if interrupted in ready:
            self._interruptions.recv(4096)
        if heard not in ready:
            return False
        asks = [
            self._hand_on(notice.payload, hear) for notice in self._connection.notifies(timeout=0)
        ]
        return any(asks)

    def _hand_on(self, payload: str, hear: Hear) -> bool:
        words = payload.split(" ")
        if len(words) != 3 or not words[1].isdigit():
            return True  # words of another release
        return hear(words[0], int(words[1]), words[2])

    def interrupt(self) -> None:
        """End a wait that another thread is in."""
        with suppress(BlockingIOError):  # full: it will end anyway
            self._interrupter.send(b"!")

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()
        self._interruptions.close()
        self._interrupter.close()


def open_source(repository: Repository) -> ChangeSource:
    """Follow this database."""
    if repository.engine.dialect.name == "postgresql":
        return PostgresSource(repository)
    return SqliteSource(repository)
