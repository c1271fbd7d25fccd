"""Designs of a generator in training, for those who follow its job's events."""

import time
from collections.abc import Callable
from typing import Any

from services.worker.encoding import thumbnail
from services.worker.masks.training import LiveRun

SHOW_SECONDS = 5.0
SHOW_SHARE = 0.05  # of the run so far: events of a long one stay few
SIDE = 2  # designs a row, and rows


class LiveDesigns:
    """Sends ``designs`` events: ``epoch``, and a small picture of what is drawn by then."""

    def __init__(self, event: Callable[[str, dict[str, Any]], None], seed: int) -> None:
        self._event, self._seed = event, seed
        self._began = time.monotonic()
        self._show_at = self._began + SHOW_SECONDS

    def __call__(self, live: LiveRun) -> None:
        """Look at a run after an epoch."""
        now = time.monotonic()
        if now < self._show_at:
            return
        self._show_at = now + max(SHOW_SECONDS, SHOW_SHARE * (now - self._began))
        drawn = live.draw(SIDE * SIDE, self._seed).unflatten(0, (SIDE, SIDE))
        square = drawn.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
        picture = thumbnail((255 * square).round().byte().numpy())
        self._event("designs", {"epoch": live.epoch.number, "picture": picture})
