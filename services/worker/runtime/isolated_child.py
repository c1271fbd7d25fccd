"""The other side of ``isolated``: a process that runs one function within limits, and ends."""

import ctypes
import errno
import importlib
import json
import os
import resource
import signal
import sys
import threading
from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


def main() -> int:
    """Answer the request that stands on standard input."""
    request = json.load(sys.stdin)
    _die_with(request["parent"])
    _limit(**request["limits"])
    say = _Answer(request["answer"])
    files = [os.fdopen(number, "r+b") for number in request["files"]]
    refusals = set(request["refusals"])
    module, _, name = request["function"].partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
        result = function(*files, progress=say.progress, **request["arguments"])
        for file in files:
            file.flush()
    except MemoryError:
        say(over="memory")
        return 0
    except Exception as error:
        kind = next((one.__name__ for one in type(error).__mro__ if one.__name__ in refusals), None)
        if kind is not None:
            say(refused=[kind, str(error)])
            return 0
        if isinstance(error, OSError) and error.errno in (errno.EFBIG, errno.ENOMEM):
            say(over="disk" if error.errno == errno.EFBIG else "memory")
            return 0
        raise
    say(result=result)
    return 0


class _Answer:
    """Writes messages, one a line."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._lock = threading.Lock()

    def __call__(self, **message: Any) -> None:
        data = json.dumps(message).encode() + b"\n"
        with self._lock:
            while data:
                data = data[os.write(self._number, data) :]

    def progress(self, done: int, total: int, message: str = "") -> None:
        """Tell how far the work is."""
        self(progress=[done, total, message])


def _die_with(parent: int) -> None:
    """End when the worker does, in whatever way."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def _limit(*, memory_bytes: int, file_bytes: int, cpu_seconds: int) -> None:
    # Data, not address space: libraries map gigabytes that they never touch.
    for kind, most in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        # The hard limit of processor time kills without saying why.
        later = (
            limit + 5 if kind == resource.RLIMIT_CPU and hard == resource.RLIM_INFINITY else limit
        )
        resource.setrlimit(kind, (limit, later))


if __name__ == "__main__":
    sys.exit(main())
