"""How this process deals with memory that was freed."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT_BYTES = 256 * 2**20
MAPPED_BYTES = 32 * 2**20  # the most that glibc takes


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
