"""Tells color profiles from bytes that only pose as one (ICC.1, clause 7.2)."""

MAX_PROFILE_BYTES = 4 * 2**20  # the largest in use, for printing presses, take 3 MB
_HEADER_BYTES = 128
_MAX_PADDING = 3


def is_profile(profile: object) -> bool:
    """Whether these are the bytes of one whole profile of a bearable size, and nothing more."""
    if not isinstance(profile, bytes) or not _HEADER_BYTES < len(profile) <= MAX_PROFILE_BYTES:
        return False
    declared = int.from_bytes(profile[:4], "big")
    return profile[36:40] == b"acsp" and 0 <= len(profile) - declared <= _MAX_PADDING
