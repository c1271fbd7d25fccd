"""Runs a function on hostile input in a process of its own, which can be killed at any time.

What decodes strangers' files may loop, hold the interpreter's lock, take all memory or crash. In a
process of its own it does that to itself only: the worker's heartbeat goes on, and when the job is
canceled, past its deadline or lost, the process is killed from outside.

The process has limits on memory and on the size of files, no core dump and none of the worker's
environment, so no passwords. It answers in JSON: nothing that it sends is unpickled.
"""

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Protocol

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[3]
CHILD = "services.worker.runtime.isolated_child"
TICK_SECONDS = 0.1
EXIT_SECONDS = 5.0
# Of all that the process may say; progress is a few bytes, a result some kilobytes.
MOST_ANSWER_BYTES = 16 * 2**20
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TMPDIR", "TZ", "SYSTEMROOT")
_LOGGED_BYTES = 4000


@dataclass(frozen=True)
class ProcessLimits:
    """Most memory, bytes of a file that it writes, and seconds of a CPU."""

    memory_bytes: int
    file_bytes: int
    cpu_seconds: int = 24 * 3600


class Refused(Exception):
    """The function refused its input, with one of the exceptions that its caller expects."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class OverLimit(Exception):
    """The process needed more than its limits; says of what."""


class ProcessDied(Exception):
    """The process ended without an answer: a crash in native code, or a fault of ours."""

    def __init__(self, code: int) -> None:
        super().__init__(f"an isolated process ended with {code}")
        self.crashed = code < 0


class Report(Protocol):
    """Is told how far the work is."""

    def __call__(self, done: int, total: int, message: str = "") -> None: ...


def run_isolated(
    function: str,
    arguments: Mapping[str, Any],
    *,
    files: Sequence[IO[bytes]],
    limits: ProcessLimits,
    refusals: Sequence[str],
    progress: Report,
    check: Callable[[], None],
) -> Any:
    """Call ``module:function(*files, progress=…, **arguments)`` in a process of its own.

    ``arguments`` and the answer are JSON; ``files`` are open files that both processes share, at
    their positions. ``check`` is called ten times a second and may raise: the process is killed
    then, as it is when this function ends in any way. Exceptions named in ``refusals``, and those
    derived from them, come back as ``Refused``; others raise ``OverLimit`` or ``ProcessDied``.
    """
    reader, writer = os.pipe()
    numbers = [file.fileno() for file in files]
    request = {
        "function": function,
        "arguments": dict(arguments),
        "files": numbers,
        "answer": writer,
        "parent": os.getpid(),
        "limits": asdict(limits),
        "refusals": list(refusals),
    }
    with TemporaryFile() as errors:
        try:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", CHILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=(*numbers, writer),
                env=_environment(),
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        try:
            answer = _converse(process, reader, json.dumps(request).encode(), progress, check)
        finally:
            os.close(reader)
            _kill(process)
        return _result(answer, process, errors)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**kept, **threads, "PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "2"}


def _converse(
    process: "subprocess.Popen[bytes]",
    reader: int,
    request: bytes,
    progress: Report,
    check: Callable[[], None],
) -> dict[str, Any]:
    """Send the request and pass progress on, until the answer or the end of the process."""
    if process.stdin is not None:
        with suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(request)
    buffer, total = b"", 0
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        while True:
            check()
            if not selector.select(TICK_SECONDS):
                continue
            data = os.read(reader, 1 << 16)
            total += len(data)
            if total > MOST_ANSWER_BYTES:
                return {}
            if not data:  # it ends by itself: how, is worth to know
                with suppress(subprocess.TimeoutExpired):
                    process.wait(EXIT_SECONDS)
                return {}
            *lines, buffer = (buffer + data).split(b"\n")
            latest: list[Any] | None = None
            for line in lines:
                message = json.loads(line)
                if "progress" not in message:
                    return dict(message)
                latest = message["progress"]
            if latest is not None:
                progress(int(latest[0]), int(latest[1]), str(latest[2])[:200])


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End the process and whatever it started, and wait for it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _result(answer: dict[str, Any], process: "subprocess.Popen[bytes]", errors: IO[bytes]) -> Any:
    if "result" in answer:
        return answer["result"]
    if "refused" in answer:
        kind, detail = answer["refused"]
        raise Refused(str(kind), str(detail))
    if "over" in answer:
        raise OverLimit(str(answer["over"]))
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - _LOGGED_BYTES))
    said = errors.read().decode("utf-8", "replace")
    logger.error("an isolated process ended with %s: %s", process.returncode, said)
    if -process.returncode == signal.SIGXCPU:
        raise OverLimit("processor time")
    raise ProcessDied(process.returncode)
