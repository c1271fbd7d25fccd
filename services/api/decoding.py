"""The order of decoding: tenants take turns, and expensive images do not delay cheap ones."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

# In pixels of a JPEG with one scan: a photo of 40 megapixels is quick, one of ten scans is not.
EXPENSIVE = 60_000_000

T = TypeVar("T")


class _Line:
    """Those who wait, by tenant; the tenant who was served goes to the end."""

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._tenants.values()))

    def join(self, tenant: str, waiter: "asyncio.Future[None]") -> None:
        self._tenants.setdefault(tenant, deque()).append(waiter)

    def leave(self, tenant: str, waiter: "asyncio.Future[None]") -> None:
        waiters = self._tenants.get(tenant, deque())
        if waiter in waiters:
            waiters.remove(waiter)
        if not waiters:
            self._tenants.pop(tenant, None)

    def next(self) -> "asyncio.Future[None]":
        tenant, waiters = next(iter(self._tenants.items()))
        waiter = waiters.popleft()
        if waiters:
            self._tenants.move_to_end(tenant)
        else:
            del self._tenants[tenant]
        return waiter


class DecodingTurns:
    """Places for decoding, at least two; of one event loop.

    Expensive images take half of the places at most. Quick ones take any, but leave the other half
    its own while expensive ones wait. In both lines tenants take turns.
    """

    def __init__(self, places: int) -> None:
        self._places = max(2, places)
        self._apart = self._places // 2
        self._lines = {True: _Line(), False: _Line()}  # by whether it is expensive
        self._running = {True: 0, False: 0}
        self._threads = CapacityLimiter(self._places)

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return sum(map(len, self._lines.values()))

    async def run(self, tenant: str, cost: int, function: Callable[[], T]) -> T:
        """Run a function in a thread when the tenant's turn has come.

        ``cost`` is ``decoding_cost`` of what it decodes. Who waits holds no thread.
        """
        expensive = cost > EXPENSIVE
        await self._turn(tenant, expensive=expensive)
        try:
            return await to_thread.run_sync(function, limiter=self._threads)
        finally:
            self._leave(expensive=expensive)

    async def _turn(self, tenant: str, *, expensive: bool) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines[expensive].join(tenant, waiter)
        self._admit()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # its turn came at the same moment
                self._leave(expensive=expensive)
            else:
                self._lines[expensive].leave(tenant, waiter)
            raise

    def _leave(self, *, expensive: bool) -> None:
        self._running[expensive] -= 1
        self._admit()

    def _admit(self) -> None:
        """Let in whoever may go now."""
        for expensive in (True, False):
            while self._lines[expensive] and self._has_place(expensive=expensive):
                waiter = self._lines[expensive].next()
                if not waiter.done():
                    self._running[expensive] += 1
                    waiter.set_result(None)

    def _has_place(self, *, expensive: bool) -> bool:
        if sum(self._running.values()) >= self._places:
            return False
        if expensive:
            return self._running[True] < self._apart
        reserved = self._apart if self._lines[True] else 0
        return self._running[False] < self._places - reserved
