"""Processes that rate: their answers, their errors, and that none is left."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from services.worker.masks.hog.objectives import Decoys
from services.worker.masks.hog.pool import Pool
from services.worker.masks.hog.problem import Problem
from services.worker.masks.hog.sprites import Sprites

ROOT = Path(__file__).resolve().parents[4]
PATTERN = Sprites(count=1, height=160, width=160, smallest=90, largest=140)
FACES = Problem(PATTERN, Decoys())
STATES = [PATTERN.start(np.random.default_rng(seed)) for seed in range(7)]


def members() -> list[psutil.Process]:
    me = psutil.Process()
    return [one for one in me.children() if "masks.hog.process" in " ".join(one.cmdline())]


def eventually(holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + 10
    while not holds() and time.monotonic() < until:
        time.sleep(0.02)
    return holds()


def test_answers_come_in_the_order_of_the_states() -> None:
    expected = [FACES.rate(state) for state in STATES]
    with Pool(FACES, 1) as alone:
        assert alone.rate(STATES) == expected
        assert members() == []
    with Pool(FACES, 2) as pool:
        assert len(members()) == 2
        assert pool.rate(STATES) == expected
        assert pool.rate(STATES[:1]) == expected[:1]
        assert pool.rate([]) == []
    assert members() == []


def test_processes_end_with_an_error_and_with_a_cancel() -> None:
    too_large = Problem(Sprites(height=80, width=1100), Decoys(scales=(4.0,)))
    states = [too_large.pattern.start(np.random.default_rng(0))] * 3
    with Pool(too_large, 2) as pool, pytest.raises(ValueError, match="larger than 4096"):
        pool.rate(states)
    assert members() == []

    class StopError(Exception):
        pass

    def check() -> None:
        raise StopError

    with Pool(FACES, 2) as pool:
        with pytest.raises(StopError):
            pool.rate(STATES, check)
        assert members() == []
        with pytest.raises(RuntimeError, match="closed"):
            pool.rate(STATES)


def test_a_process_that_was_killed_is_an_error_not_a_wait() -> None:
    with Pool(FACES, 2) as pool:
        victim = members()[0]
        victim.kill()
        with pytest.raises(RuntimeError, match="gone"):
            pool.rate(STATES)
    assert members() == []


def test_processes_end_when_their_parent_is_killed() -> None:
    program = """
        import numpy, time
        from services.worker.masks.hog.objectives import Decoys
        from services.worker.masks.hog.pool import Pool
        from services.worker.masks.hog.problem import Problem
        from services.worker.masks.hog.sprites import Sprites
        pool = Pool(Problem(Sprites(), Decoys()), 2)
        print("ready", flush=True)
        time.sleep(60)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    with parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"ready\n"
            children = psutil.Process(parent.pid).children()
            assert len(children) == 2
        finally:
            parent.send_signal(signal.SIGKILL)
            parent.wait()
        assert eventually(lambda: not any(child.is_running() for child in children))


def test_a_problem_that_cannot_be_sent_is_refused_before_a_process_starts() -> None:
    class Local(Decoys):
        pass

    with pytest.raises(ValueError, match="cannot be sent"):
        Pool(Problem(PATTERN, Local()), 2)
    assert members() == []


@pytest.mark.parametrize("count", [0, -1, 65])
def test_a_pool_has_a_bounded_number_of_processes(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 64 processes"):
        Pool(FACES, count)
