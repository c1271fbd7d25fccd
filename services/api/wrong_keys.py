"""Slows down whoever tries keys: a few wrong ones, then one every few seconds."""

import time
from collections import OrderedDict

from shared.problems import Problem

BURST = 20
SECONDS_EACH = 3.0
MOST_ACCOUNTS = 10_000


class WrongKeys:
    """Counts wrong keys by the address that sent them (an IPv6 address by its /64 network)."""

    def __init__(self) -> None:
        self._debts: OrderedDict[str, tuple[float, float]] = OrderedDict()  # number, and when

    def refuse(self, account: str) -> None:
        """Raise ``too-many-wrong-keys`` where too many have come of late."""
        debt = self._debt(account)
        if debt >= BURST:
            seconds = int((debt - BURST + 1) * SECONDS_EACH) + 1
            problem = Problem("too-many-wrong-keys", "Too many wrong API keys; wait a little.")
            raise problem.with_headers(Retry_After=str(seconds))

    def count(self, account: str) -> None:
        """Count a wrong key."""
        self._debts[account] = (self._debt(account) + 1, time.monotonic())
        self._debts.move_to_end(account)
        if len(self._debts) > MOST_ACCOUNTS:
            self._debts.popitem(last=False)

    def _debt(self, account: str) -> float:
        number, at = self._debts.get(account, (0.0, 0.0))
        return max(0.0, number - (time.monotonic() - at) / SECONDS_EACH)
