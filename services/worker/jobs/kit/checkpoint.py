"""Checkpoints of jobs: one writer, and one rule for how often it writes.

A milestone, such as an epoch's end, is always saved. Between milestones a checkpoint is saved when
the last one took at most ``SHARE`` of the time since then: saving never costs a job more than that.
"""

import time
from collections.abc import Callable

from services.worker.runtime.context import JobContext

SHARE = 0.02
# How often a running algorithm offers its state: to copy it takes time, too.
OFFER_SECONDS = 30.0


class CheckpointWriter:
    """Loads what an earlier attempt saved, and saves what this one has done."""

    def __init__(self, context: JobContext) -> None:
        self._checkpoints = context.checkpoints
        self._saved_at, self._took = time.monotonic(), 0.0

    def load(self, *names: str) -> dict[str, bytes] | None:
        """Return the newest checkpoint, if it has the files ``names``."""
        files = self._checkpoints.load()
        return files if files is not None and files.keys() >= set(names) else None

    def save(self, pack: Callable[[], dict[str, bytes]], *, milestone: bool = False) -> None:
        """Save what ``pack`` returns, by file name, where it is due."""
        began = time.monotonic()
        if not milestone and self._took > SHARE * (began - self._saved_at):
            return
        self._checkpoints.save(pack())
        self._saved_at = time.monotonic()
        self._took = self._saved_at - began
