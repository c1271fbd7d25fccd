"""Durations in messages."""


def format_duration(seconds: float) -> str:
    """Return a duration as one reads it: in seconds, minutes or hours."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
