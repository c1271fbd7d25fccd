"""The memory of a worker: what a job may need, the process's own limit, what is freed."""

import errno
import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from services.worker.runtime import memory
from shared.memory import is_out_of_memory
from shared.problems import Problem

ROUNDS = """
import resource, sys
import numpy as np
from services.worker.runtime.memory import keep_freed_memory

if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit("malloc did not take the options")

def layers():
    return [np.ones(3_000_000, dtype=np.float32) for _ in range(4)]

layers()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    layers()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _page_faults(mode: str) -> int:
    ran = subprocess.run(
        [sys.executable, "-c", ROUNDS, mode], capture_output=True, text=True, check=True
    )
    return int(ran.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_maps_as_large_as_before_cost_no_new_pages() -> None:
    assert _page_faults("keep") * 20 < _page_faults("default")


def test_a_job_that_needs_more_than_its_budget_is_refused_with_the_figure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "_job_bytes", 0)
    memory.set_job_budget(100 * 2**20)

    memory.require(100 * 2**20, "2 faces")
    with pytest.raises(Problem, match=r"2,000 faces would need 3,000 MiB .* 100 MiB") as caught:
        memory.require(3000 * 2**20, "2,000 faces")

    assert caught.value.slug == "too-much-memory"
    assert caught.value.extensions == {"needed_bytes": 3000 * 2**20, "limit": 100 * 2**20}


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    for error in (ValueError("out of memory"), RuntimeError("no"), OSError(2, "no such file")):
        assert memory.out_of_memory(error) is None


@pytest.mark.parametrize(("contained", "share"), [("8000000000\n", 0.9), ("max\n", None)])
def test_the_limit_is_a_share_of_the_containers_memory_or_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contained: str, share: float | None
) -> None:
    file = tmp_path / "memory.max"
    file.write_text(contained)
    monkeypatch.setattr(memory, "_CGROUP_LIMIT", file)
    machine = psutil.virtual_memory().total

    expected = 8e9 * share if share else machine * 0.8

    assert memory.default_limit() == pytest.approx(expected, rel=0.01)


LIMITED = """
import numpy as np, torch
from services.worker.runtime.memory import limit_memory, out_of_memory
from tests.memory import peak_kibibytes

limit = limit_memory(3 * 2**30)
assert limit == 3 * 2**30
takers = [
    lambda: torch.ones(4 * 2**30, dtype=torch.uint8),
    lambda: np.ones(4 * 2**30, dtype=np.uint8),
    lambda: bytearray(4 * 2**30),
    lambda: [bytearray(2**26) for _ in range(100)],
]
for take in takers:
    try:
        take()
    except Exception as error:
        print(out_of_memory(error).slug)
torch.ones(1000, 1000) @ torch.ones(1000, 1000)
print(peak_kibibytes() // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels have no such limit")
def test_what_needs_more_than_the_process_may_take_fails_and_the_process_goes_on() -> None:
    command = [sys.executable, "-c", LIMITED]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)

    *ends, peak = ran.stdout.split()
    assert ends == ["out-of-memory"] * 4
    assert int(peak) < 3 * 1024


class AllocatorError(Exception):
    """As onnxruntime raises: of a type of its own."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (AllocatorError("BFCArena: Failed to allocate memory for 8 bytes"), True),
        (AllocatorError("the graph has no output"), False),
        (ValueError("the file says: out of memory"), False),
    ],
)
def test_a_lack_of_memory_is_told_from_what_data_causes(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
