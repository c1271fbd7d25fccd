"""What SQLite leaves on the disk, and the space that it needs there to delete.

With ``secure_delete`` SQLite overwrites what is deleted, but its log (WAL) keeps earlier pages
until it is emptied. A deletion writes, too: on a full disk it is given space that was held back.
"""

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from functools import update_wrapper
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

RESERVE_BYTES = 8 * 2**20
LOG_PATIENCE_SECONDS = 0.2  # writers wait as long, where a reader is in the way
_FULL = ("database or disk is full", "No space left on device")

P = ParamSpec("P")
T = TypeVar("T")


def is_full(error: Exception) -> bool:
    """Whether the database, or this process, found no space left on the disk."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, DBAPIError) and any(sign in str(error.orig) for sign in _FULL)


def database_file(engine: Engine) -> Path | None:
    """Return the file of an SQLite database; ``None`` for Postgres."""
    return Path(str(engine.url.database)) if engine.dialect.name == "sqlite" else None


def empty_log(path: Path) -> bool:
    """Write SQLite's log into its database and truncate it; false while a reader is in the way."""
    with closing(sqlite3.connect(path, timeout=LOG_PATIENCE_SECONDS)) as connection:
        connection.execute("PRAGMA secure_delete=ON")
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy


class Reserve:
    """A file beside SQLite's database that is deleted when the disk is full. Postgres has none."""

    def __init__(self, engine: Engine) -> None:
        file = database_file(engine)
        self.path = file and file.with_name(f"{file.name}-reserve")

    def hold(self, *, free_bytes: int) -> None:
        """Make the file, unless less than ``free_bytes`` beside it would be left on the disk."""
        path = self.path
        if path is None or path.exists():
            return
        if shutil.disk_usage(path.parent).free < free_bytes + RESERVE_BYTES:
            return
        half = path.with_name(f"{path.name}-{os.getpid()}")
        try:
            half.write_bytes(bytes(RESERVE_BYTES))  # not sparse: blocks of its own
            half.rename(path)
        finally:
            half.unlink(missing_ok=True)

    def release(self) -> None:
        """Give the space up."""
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)


class _HasReserve(Protocol):
    reserve: Reserve


Q = TypeVar("Q", bound=_HasReserve)
Query = Callable[Concatenate[Q, P], T]


def frees_space(do: Query[Q, P, T]) -> Query[Q, P, T]:
    """Make a query that deletes work on a full disk: it gives the reserve up and tries again."""

    def freeing(queries: Q, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return do(queries, *args, **kwargs)
        except DBAPIError as error:
            if not is_full(error):
                raise
        queries.reserve.release()
        return do(queries, *args, **kwargs)

    return update_wrapper(freeing, do)
