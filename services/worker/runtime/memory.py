"""The memory of this process: how much a job may need, how much all may take, what is freed.

A job that knows what it will need asks with ``require`` first, and is refused with the figure. An
allocation that nobody foresaw meets the process's own limit: it fails, and the job with it, while
the process goes on. Without that limit the kernel would kill the process, and the next worker's.
"""

import ctypes
import logging
import os
import resource
import sys
from pathlib import Path

from shared.memory import is_out_of_memory
from shared.problems import Problem

logger = logging.getLogger(__name__)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT_BYTES = 256 * 2**20
MAPPED_BYTES = 32 * 2**20  # the most that glibc takes
ROOM_BYTES = 2**30  # that a limit must leave beside what a warm worker has taken
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_job_bytes = 2 * 2**30


def set_job_budget(size: int) -> None:
    """Set the bytes that ``require`` grants."""
    global _job_bytes  # noqa: PLW0603 - one a process, as the memory is
    _job_bytes = size


def require(size: int, what: str) -> None:
    """Raise ``too-much-memory`` when a job is about to need ``size`` bytes for ``what``."""
    if size > _job_bytes:
        raise Problem(
            "too-much-memory",
            f"{what} would need {_mebibytes(size)} of memory; a job here may need "
            f"{_mebibytes(_job_bytes)} (BAUTA_JOB_MEMORY_BYTES).",
            needed_bytes=size,
            limit=_job_bytes,
        )


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def default_limit() -> int:
    """Return 90 % of the container's memory, or 80 % of the machine's."""
    try:
        contained = int(_CGROUP_LIMIT.read_text())
    except (OSError, ValueError):  # none, or ``max``
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 8 // 10
    return contained * 9 // 10


def limit_memory(size: int | None) -> int | None:
    """Bound this process's memory to ``size`` bytes (default: ``default_limit``).

    It bounds data (``RLIMIT_DATA``), not addresses: libraries reserve far more of those than they
    use. Returns the limit; ``None`` where the kernel knows none, or where what a driver has mapped
    already leaves no room below it.
    """
    if sys.platform != "linux":
        return None
    limit = default_limit() if size is None else size
    taken = _data_bytes()
    if taken + ROOM_BYTES > limit:
        logger.warning(
            "no limit on memory: %s are taken already, of %s", _mebibytes(taken), _mebibytes(limit)
        )
        return None
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    return limit


def _data_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))


def out_of_memory(error: BaseException) -> Problem | None:
    """Return the problem of a job that met the limit; ``None`` for other errors."""
    if not is_out_of_memory(error):
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    most = "" if limit == resource.RLIM_INFINITY else f" of {_mebibytes(limit)}"
    return Problem(
        "out-of-memory", f"The job needed more memory than its worker may take{most}: make it less."
    )


def keep_freed_memory() -> bool:
    """Let malloc keep what tensors free for the next ones; false where it is not glibc's.

    By default the maps of every layer are given back to the kernel and asked for again, page by
    page: on a CPU that takes 5 % of a search for faces. At most ``KEPT_BYTES`` at the end of the
    heap are kept; single blocks over ``MAPPED_BYTES`` are given back as ever.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return all(
        mallopt(option, size) == 1
        for option, size in ((M_MMAP_THRESHOLD, MAPPED_BYTES), (M_TRIM_THRESHOLD, KEPT_BYTES))
    )
