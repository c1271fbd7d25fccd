"""Processes that are kept running: real ones that die, freeze, and ask to be relieved."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from services import child as child_module
from services.child import RETIRING, Child
from tests.fixtures.process import wait_until

pytestmark = [pytest.mark.integration]

PROGRAM = (sys.executable, "-m", "services.cli")
ROOT = Path(__file__).resolve().parents[2]
# Shows its health ten times a second; retires when a file `retire` lies beside, and then ends on
# relief. With a file `broken` it dies at once.
PROCESS = f"""
import pathlib, signal, sys, time
health = pathlib.Path(sys.argv[-1])
if (health.parent / "broken").exists():
    sys.exit(3)
relieved = []
signal.signal(signal.SIGUSR1, lambda *_: relieved.append(1))
retire = health.parent / "retire"
retires = retire.exists() and (retire.unlink() or True)
time.sleep(0.3)
while not relieved:
    health.write_text("{RETIRING}" if retires else str(time.time()))
    time.sleep(0.1)
"""
Make = Callable[..., Child]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Child] = []

    def start(**options: float) -> Child:
        command = [sys.executable, "-c", PROCESS]
        child = Child("it", command, {}, tmp_path / "health", **options)  # type: ignore[arg-type]
        made.append(child)
        child.start()
        return child

    yield start
    for child in made:
        for process in child.processes:
            process.kill()
            process.wait()


def watch(child: Child, holds: Callable[[], bool], what: str) -> None:
    """Watch the child, as its supervisor does, until something holds."""

    def check() -> bool:
        child.watch()
        return holds()

    wait_until(check, seconds=60, what=what)


def pid(child: Child) -> int:
    return child.processes[0].pid


def test_a_process_that_died_is_started_again(make: Make) -> None:
    child = make()
    watch(child, lambda: child.is_ready, "the first")
    first = pid(child)
    os.kill(first, signal.SIGKILL)

    watch(child, lambda: child.is_ready and pid(child) != first, "another")

    assert (child.code, child.hung) == (-signal.SIGKILL, 0)


def test_a_frozen_process_is_killed_and_followed_by_another(make: Make) -> None:
    child = make(hung_seconds=3)
    watch(child, lambda: child.is_ready, "the first")
    frozen = child.processes[0]
    frozen.send_signal(signal.SIGSTOP)

    watch(child, lambda: child.is_ready and pid(child) != frozen.pid, "another")

    assert child.hung == 1
    assert frozen.returncode == -signal.SIGKILL
    assert child.is_well


def test_a_process_that_never_gets_ready_is_killed(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "START_SECONDS", 0.0)
    child = make()
    first = child.processes[0]

    watch(child, lambda: first.poll() is not None, "its end")

    assert child.hung == 1


def test_a_clock_that_was_set_makes_nobody_silent(make: Make, tmp_path: Path) -> None:
    child = make(hung_seconds=30)
    watch(child, lambda: child.is_ready, "the first")
    first = pid(child)
    (file,) = tmp_path.glob("health.*")
    os.utime(file, (1, 1))

    child.watch()

    assert child.is_well
    assert (pid(child), child.hung) == (first, 0)


def test_a_process_that_is_due_works_on_until_its_successor_is_ready(
    make: Make, tmp_path: Path
) -> None:
    (tmp_path / "retire").touch()
    child = make()
    watch(child, lambda: child.is_ready, "the first")
    first = child.processes[0]
    gaps = []

    def relieved() -> bool:
        gaps.append(child.is_ready)
        if pid(child) == first.pid:
            assert first.poll() is None, "it left before its successor was there"
        return first.poll() is not None

    watch(child, relieved, "the relief")

    assert all(gaps), "there was a moment with nobody ready"
    assert first.returncode == 0
    watch(child, lambda: len(child.processes) == 1, "the first to be forgotten")
    assert len(list(tmp_path.glob("health.*"))) == 1


def test_a_successor_that_cannot_start_costs_no_work_until_it_must(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "LONGEST_PAUSE_SECONDS", 0.2)
    (tmp_path / "retire").touch()
    child = make()
    watch(child, lambda: child.is_ready, "the first")
    first = child.processes[0]
    (tmp_path / "broken").touch()
    watch(child, lambda: child.code == 3, "a successor's death")
    assert first.poll() is None

    watch(child, lambda: first.poll() is not None, "the end of the first, so that there is room")

    (tmp_path / "broken").unlink()
    watch(child, lambda: child.is_ready and pid(child) != first.pid, "another")


def command_line(*words: str, folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "BAUTA_DATA_DIR": str(folder / "data"), "BAUTA_HUNG_SECONDS": "4"}
    subprocess.run(
        [*PROGRAM, "db", "upgrade"],
        check=True,
        cwd=ROOT,
        env=environment,
        capture_output=True,
    )
    return subprocess.Popen([*PROGRAM, *words], cwd=ROOT, env=environment)


def test_a_container_s_command_starts_what_hangs_again(tmp_path: Path) -> None:
    health = tmp_path / "health"
    parent = command_line("keeper", "--watched", "--health-file", str(health), folder=tmp_path)
    try:
        wait_until(health.exists, what="the keeper")
        (frozen,) = psutil.Process(parent.pid).children()
        frozen.suspend()

        def replaced() -> bool:
            return [child.pid for child in psutil.Process(parent.pid).children()] != [frozen.pid]

        wait_until(replaced, seconds=60, what="another keeper")
        shown = health.stat().st_mtime_ns
        wait_until(lambda: health.stat().st_mtime_ns > shown, what="its health")
        parent.terminate()
        assert parent.wait(60) == 0
        assert not frozen.is_running()
    finally:
        parent.kill()
        parent.wait()


def test_a_container_s_command_ends_as_what_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no folder")
    environment = {**os.environ, "BAUTA_DATA_DIR": str(tmp_path / "data")}

    done = subprocess.run(
        [*PROGRAM, "keeper", "--watched", "--health-file", str(tmp_path / "health")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
    )

    assert done.returncode != 0
