"""Warm models, bounded in memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar


class Sized(Protocol):
    """Something that knows how many bytes it takes."""

    @property
    def bytes(self) -> int: ...


T = TypeVar("T", bound=Sized)


class ModelCache:
    """Keeps what was loaded last, up to ``max_bytes``; the newest stays however large it is."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, Sized] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, load: Callable[[], T]) -> T:
        """Return what ``load`` returned for this key, loading it when it is not kept."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]  # type: ignore[return-value]
            loaded = load()
            self._entries[key] = loaded
            while len(self._entries) > 1 and self._total() > self._max_bytes:
                self._entries.popitem(last=False)
            return loaded

    def _total(self) -> int:
        return sum(entry.bytes for entry in self._entries.values())
