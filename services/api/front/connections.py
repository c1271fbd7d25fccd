"""The open connections of an API process: how many, from where, and how long each may take."""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from services.api.front.addresses import Address, Networks, account, is_inside

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What one connection, one address and all together may take."""

    connections: int = 4096
    connections_per_address: int = 1024
    proxies: Networks = field(default=())  # their connections carry many clients
    head_bytes: int = 64 * 1024  # request line and headers; also chunk extensions and trailers
    head_lines: int = 128
    target_bytes: int = 16 * 1024  # path and query
    head_seconds: float = 20.0
    body_seconds: float = 20.0  # without progress
    body_bytes_per_second: float = 4096.0
    receive_buffer_bytes: int = 256 * 1024  # of the kernel; doubled there
    write_seconds: float = 30.0  # in which a client takes nothing of its answer
    linger_seconds: float = 3.0  # in which a refused client may read why
    tick_seconds: float = 1.0


class Connection(Protocol):
    """A connection as its book-keeper sees it."""

    def tick(self, seconds: float) -> None:
        """Take notice that time has passed."""

    def drop(self) -> None:
        """Close at once: another client needs the place."""


class Connections:
    """Admits connections within the bounds and ticks them once a second.

    Use it from the event loop only. A full house gives the place of whoever has sat longest
    without a request to the newcomer, so that idle connections lock nobody out.
    """

    def __init__(self, bounds: Bounds, on_refusal: Callable[[str], object] | None = None) -> None:
        self.bounds = bounds
        self._on_refusal = on_refusal
        self._open: dict[Connection, str | None] = {}
        self._idle: OrderedDict[Connection, None] = OrderedDict()
        self._per_address: Counter[str] = Counter()
        self._ticking: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def refused(self, reason: str) -> None:
        """Report that a connection was refused or closed by the bounds."""
        if self._on_refusal is not None:
            self._on_refusal(reason)

    def admit(self, connection: Connection, address: Address | None) -> bool:
        """Count a new connection; false when it has to be refused."""
        counted = self._counted(address)
        if counted and self._per_address[counted] >= self.bounds.connections_per_address:
            return False
        if len(self._open) >= self.bounds.connections:
            if not self._idle:
                return False
            longest, _ = self._idle.popitem(last=False)
            self.leave(longest)
            self.refused("idle")
            longest.drop()
        self._open[connection] = counted
        if counted:
            self._per_address[counted] += 1
        self.idle(connection)
        if self._ticking is None:
            self._schedule()
        return True

    def leave(self, connection: Connection) -> None:
        """Count a connection no more; one that is not counted is fine."""
        if connection not in self._open:
            return
        counted = self._open.pop(connection)
        self._idle.pop(connection, None)
        if counted:
            self._per_address[counted] -= 1
            if not self._per_address[counted]:
                del self._per_address[counted]

    def idle(self, connection: Connection) -> None:
        """Note that a connection waits for its client's next request."""
        if connection in self._open:
            self._idle[connection] = None
            self._idle.move_to_end(connection)

    def busy(self, connection: Connection) -> None:
        """Note that a request is under way."""
        self._idle.pop(connection, None)

    def _counted(self, address: Address | None) -> str | None:
        """Return the account of an address; ``None`` where one address stands for many clients."""
        if address is None or address.is_loopback or is_inside(address, self.bounds.proxies):
            return None
        return account(address)

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        self._ticking = loop.call_later(self.bounds.tick_seconds, self._tick)

    def _tick(self) -> None:
        for connection in tuple(self._open):
            try:
                connection.tick(self.bounds.tick_seconds)
            except Exception:  # one connection's fault must not stop the clock of the others
                logger.exception("a connection could not be ticked")
        self._ticking = None
        if self._open:
            self._schedule()
