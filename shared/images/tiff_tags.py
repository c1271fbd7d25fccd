"""Reads the directories of a TIFF, and of EXIF, which is one (TIFF 6.0)."""

import struct
from dataclasses import dataclass

Entry = tuple[int, int, int, bytes]

_ORIENTATION, _NESTED = 274, 330
VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_LONGS = {4, 13}
_MAX_DIRECTORIES = 1000
_MAX_NESTED = 16
_MAX_ENTRIES = 100_000  # of all directories together


@dataclass(frozen=True)
class Directory:
    """One picture's tags: tag, type, count and the four value bytes of each entry.

    ``is_nested``: another directory names it, it is no page of its own.
    """

    order: str
    entries: tuple[Entry, ...]
    is_nested: bool

    def number(self, tag: int) -> int | None:
        """Return a tag's single unsigned number; ``None`` where there is none."""
        for found, kind, count, value in self.entries:
            if found == tag:
                return _number(self.order, kind, count, value)
        return None

    def has(self, tag: int) -> bool:
        """Whether there is such a tag."""
        return any(found == tag for found, *_ in self.entries)


def exif_orientation(exif: bytes) -> int:
    """Return the orientation (1 to 8) that EXIF data asks for; 1 when it says nothing sensible."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = byte_order(exif)
    if order is None or len(exif) < 8:
        return 1
    entries, _ = _entries(exif, order, _long(exif, order, 4))
    number = Directory(order, tuple(entries), is_nested=False).number(_ORIENTATION)
    return number if number is not None and 1 <= number <= 8 else 1


def byte_order(data: bytes) -> str | None:
    """Return the sign of ``struct`` for the data's byte order; ``None``: this is no TIFF."""
    return {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])


def read_directories(data: bytes, order: str) -> list[Directory]:
    """Return the pages, each followed by what it nests, as far as they can be read."""
    found: list[Directory] = []
    seen: set[int] = set()
    entries_left = _MAX_ENTRIES
    start = _long(data, order, 4) if len(data) >= 8 else 0
    while start and start not in seen and len(found) < _MAX_DIRECTORIES and entries_left > 0:
        seen.add(start)
        entries, following = _entries(data, order, start)
        if not entries:
            break
        entries_left -= len(entries)
        found.append(Directory(order, tuple(entries), is_nested=False))
        for place in _nested(data, order, entries):
            if place in seen or entries_left <= 0:
                continue
            seen.add(place)
            inner, _ = _entries(data, order, place)
            entries_left -= len(inner)
            if inner:
                found.append(Directory(order, tuple(inner), is_nested=True))
        start = following
    return found


def _nested(data: bytes, order: str, entries: list[Entry]) -> list[int]:
    for tag, kind, count, value in entries:
        if tag == _NESTED and kind in _LONGS and 1 <= count <= _MAX_NESTED:
            start = 0 if count == 1 else struct.unpack(order + "I", value)[0]
            source = value if count == 1 else data
            if start + 4 * count <= len(source):
                return list(struct.unpack_from(f"{order}{count}I", source, start))
    return []


def _entries(data: bytes, order: str, start: int) -> tuple[list[Entry], int]:
    """Return a directory's entries, as many as there are, and where the next one begins (or 0)."""
    if start + 2 > len(data):
        return [], 0
    (count,) = struct.unpack_from(order + "H", data, start)
    whole = min(count, (len(data) - start - 2) // 12)
    end = start + 2 + 12 * whole
    entries = [
        struct.unpack_from(order + "HHI4s", data, start + 2 + 12 * index) for index in range(whole)
    ]
    following = _long(data, order, end) if whole == count and end + 4 <= len(data) else 0
    return entries, following


def _long(data: bytes, order: str, position: int) -> int:
    return int(struct.unpack_from(order + "I", data, position)[0])


def _number(order: str, kind: int, count: int, value: bytes) -> int | None:
    if count != 1 or kind not in (3, 4):
        return None
    return int(struct.unpack_from(order + ("H" if kind == 3 else "I"), value)[0])
