"""The memory that a process took at its most, for scripts that tests start."""

from pathlib import Path


def peak_kibibytes() -> int:
    """Resident memory of this program at its most, in KiB.

    ``getrusage`` will not do: on Linux its maximum outlives ``exec``, so a started program begins
    with what the starting one took.
    """
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
