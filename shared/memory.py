"""Tells an error that a lack of memory caused from what hostile data causes."""

import errno

# onnxruntime's and torch's allocators raise errors of types that mean other things, too.
_SIGNS = (
    *("can't allocate memory", "not enough memory", "out of memory", "bad_alloc"),
    *("failed to allocate memory", "bad allocation"),
)
_NO_SIGN = (OSError, ValueError, TypeError, LookupError)  # they may quote what somebody sent


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator refused: the machine is to blame then, and not the data."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return not isinstance(error, _NO_SIGN) and any(sign in text for sign in _SIGNS)
