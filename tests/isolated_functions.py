"""What runs in processes of their own in tests: good and bad behavior."""

import ctypes
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

Say = Callable[..., None]


class RejectedError(ValueError):
    """A refusal that the caller expects."""


def double(file: IO[bytes], *, progress: Say, number: int) -> dict[str, Any]:
    progress(1, 2, "half")
    file.write(b"written")
    return {"doubled": 2 * number}


def environment(*, progress: Say) -> dict[str, str]:
    return dict(os.environ)


class FilmRejectedError(RejectedError):
    """A kind of it."""


def refuse(*, progress: Say) -> None:
    raise FilmRejectedError("not \ud800 this one")


def fail(*, progress: Say) -> None:
    raise KeyError("a fault of ours")


def take_memory(*, progress: Say) -> int:
    return len(bytearray(2**31))


def write_much(file: IO[bytes], *, progress: Say) -> None:
    for _ in range(100):
        file.write(bytes(2**20))
    file.flush()


def crash(*, progress: Say) -> None:
    ctypes.string_at(0)


def hold_the_lock(path: str = "", *, progress: Say) -> None:
    """Match for years within one call of C that never releases the interpreter's lock."""
    progress(0, 1, str(os.getpid()))
    re.match(r"(a+)+$", "a" * 60 + "b")


def pack_forever(*files: IO[bytes], progress: Say, **arguments: Any) -> None:
    """Stand in for an import that hangs."""
    hold_the_lock(progress=progress)


def spin(*, progress: Say) -> None:
    while True:
        pass


def sleep_with_a_child(*, progress: Say) -> None:
    child = os.fork()
    if child == 0:
        time.sleep(600)
    progress(0, 1, str(child))
    time.sleep(600)


def chatter(*, progress: Say) -> None:
    while True:
        progress(0, 1, "x" * 100)


def is_alive(process: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def crash_on(*files: IO[bytes], progress: Say, **arguments: Any) -> None:
    """Stand in for a decoder that crashes."""
    crash(progress=progress)
