"""Compiles kernels that run without the interpreter lock and are cached on disk where possible."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def kernel(function: Function) -> Function:
    """Compile ``function`` with numba at its first call, ``nogil``.

    The machine code is kept in ``NUMBA_CACHE_DIR`` (else beside the module, else in the user's
    cache folder), so that only the first process pays for it. A container without any writable
    folder compiles in memory instead of failing at import.
    """
    try:
        compiled = numba.njit(function, nogil=True, cache=True)
    except RuntimeError:  # numba: "cannot cache function: no locator available"
        compiled = numba.njit(function, nogil=True)
    return cast(Function, compiled)
