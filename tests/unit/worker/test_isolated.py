"""Functions in processes of their own: their answers, their limits and their ends."""

import threading
import time
from collections.abc import Callable
from tempfile import TemporaryFile
from typing import IO, Any

import pytest

from services.worker.runtime.isolated import (
    OverLimit,
    ProcessDied,
    ProcessLimits,
    Refused,
    run_isolated,
)
from tests import isolated_functions
from tests.isolated_functions import is_alive

LIMITS = ProcessLimits(memory_bytes=512 * 2**20, file_bytes=2**20)


class Stopped(BaseException):
    """What stops a job."""


def run(
    function: Callable[..., Any],
    *files: IO[bytes],
    limits: ProcessLimits = LIMITS,
    progress: Callable[..., None] = lambda *_: None,
    check: Callable[[], None] = lambda: None,
    **arguments: Any,
) -> Any:
    return run_isolated(
        f"{isolated_functions.__name__}:{function.__name__}",
        arguments,
        files=files,
        limits=limits,
        refusals=["RejectedError"],
        progress=progress,
        check=check,
    )


def test_answers_progress_and_files_come_back() -> None:
    said: list[tuple[int, int, str]] = []
    with TemporaryFile() as file:
        answer = run(
            isolated_functions.double, file, number=21, progress=lambda *told: said.append(told)
        )
        file.seek(0)
        assert file.read() == b"written"
    assert answer == {"doubled": 42}
    assert said in ([], [(1, 2, "half")])


def test_no_secret_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAUTA_DATABASE_PASSWORD", "secret")
    assert "secret" not in run(isolated_functions.environment).values()


def test_a_refusal_comes_back_as_one() -> None:
    with pytest.raises(Refused, match="this one") as caught:
        run(isolated_functions.refuse)
    assert caught.value.kind == "RejectedError"


@pytest.mark.parametrize(
    ("function", "what"),
    [(isolated_functions.take_memory, "memory"), (isolated_functions.spin, "processor time")],
)
def test_limits_hold(function: Callable[..., Any], what: str) -> None:
    limits = ProcessLimits(memory_bytes=512 * 2**20, file_bytes=2**20, cpu_seconds=1)
    with pytest.raises(OverLimit, match=what):
        run(function, limits=limits)


def test_files_are_limited() -> None:
    with TemporaryFile() as file, pytest.raises(OverLimit, match="disk"):
        run(isolated_functions.write_much, file)


@pytest.mark.parametrize(
    ("function", "crashed"), [(isolated_functions.crash, True), (isolated_functions.fail, False)]
)
def test_a_crash_is_told_from_a_fault(function: Callable[..., Any], crashed: bool) -> None:
    with pytest.raises(ProcessDied) as caught:
        run(function)
    assert caught.value.crashed is crashed


def test_what_holds_the_lock_is_killed_and_threads_here_go_on() -> None:
    """As the heartbeat does while an import hangs in native code."""
    beats = 0
    seen: list[int] = []
    stop = threading.Event()

    def beat() -> None:
        nonlocal beats
        while not stop.wait(0.01):
            beats += 1

    def check() -> None:
        if seen and beats >= before + 20:
            raise Stopped

    def progress(done: int, total: int, message: str = "") -> None:
        nonlocal before
        before = beats
        seen.append(int(message))

    before = 0
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(Stopped):
            run(isolated_functions.hold_the_lock, progress=progress, check=check)
    finally:
        stop.set()
        thread.join()
    assert not is_alive(seen[0])


def test_what_the_process_started_ends_with_it() -> None:
    children: list[int] = []

    def check() -> None:
        if children:
            raise Stopped

    with pytest.raises(Stopped):
        run(
            isolated_functions.sleep_with_a_child,
            progress=lambda done, total, message="": children.append(int(message)),
            check=check,
        )
    for _ in range(200):
        if not is_alive(children[0]):
            break
        time.sleep(0.02)
    assert not is_alive(children[0])


def test_a_process_that_never_stops_talking_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.worker.runtime.isolated.MOST_ANSWER_BYTES", 10_000)
    with pytest.raises(ProcessDied):
        run(isolated_functions.chatter)
