"""TAR archives, read from front to end.

Written here because ``tarfile`` of older interpreters hangs on hostile headers (CVE-2024-6232,
CVE-2025-8194), and of all interpreters reads headers of any size. Sizes are checked before anything
is read, positions only grow, and parsing is linear in the bytes of a header. The formats: POSIX
ustar and pax (IEEE Std 1003.1), and long names as GNU tar writes them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from services.worker.datasets.archives.limits import (
    PIECE,
    ArchiveLimits,
    ArchiveRejectedError,
    Budget,
    shown,
)
from services.worker.datasets.archives.names import Names

BLOCK = 512
MOST_HEADER_BYTES = 2**20
# Headers in a row before a file: more are no program's work.
MOST_HEADERS = 100
_LARGEST = 2**63
_FILE, _FOLDER, _LABEL = b"0\x007", b"5", b"V"
_LONG_NAME, _LONG_LINK = b"L", b"K"
_PAX, _PAX_GLOBAL = b"xX", b"g"


@dataclass
class _Headers:
    """What the headers before a member say of it."""

    name: bytes | None = None
    size: int | None = None
    count: int = 0


@dataclass
class _Stream:
    """Counts what is read of a stream that may be longer than any archive may be."""

    file: IO[bytes]
    most: int
    position: int = field(default=0)

    def block(self) -> bytes:
        """Read a header; empty at the end."""
        data = self._read(BLOCK)
        if data and len(data) < BLOCK:
            raise ArchiveRejectedError("the archive is damaged: it ends within a header")
        return data

    def pieces(self, size: int) -> Iterator[bytes]:
        """Read ``size`` bytes and the padding after them, piece by piece."""
        left = size
        while left:
            data = self._read(min(left, PIECE))
            if not data:
                raise ArchiveRejectedError("the archive is damaged: it ends within a file")
            left -= len(data)
            yield data
        if size % BLOCK:
            self._read(BLOCK - size % BLOCK)

    def _read(self, size: int) -> bytes:
        found = []
        while size and (data := self.file.read(size)):
            size -= len(data)
            self.position += len(data)
            if self.position > self.most:
                raise ArchiveRejectedError(f"the archive unpacks to more than {self.most} bytes")
            found.append(data)
        return b"".join(found)


def tar_files(file: IO[bytes], names: Names, limits: ArchiveLimits) -> Iterator[tuple[str, bytes]]:
    """Yield path and bytes of each file of a TAR stream; raises ``ArchiveRejectedError``."""
    # What a folder, a header or padding takes besides the files' own bytes.
    stream = _Stream(file, limits.total_bytes + 8 * BLOCK * limits.files)
    budget = Budget(limits)
    headers = _Headers()
    while (block := stream.block()).strip(b"\0"):
        name, size, kind = _parsed(block)
        if kind in _PAX + _PAX_GLOBAL + _LONG_NAME + _LONG_LINK + _LABEL:
            headers.count += 1
            _read_header(stream, kind, size, headers)
            continue
        if headers.name is not None:
            name = headers.name
        if headers.size is not None:
            size = headers.size
        headers = _Headers()
        # A folder of the oldest format; by the whole name, which a header may cut at a slash.
        if kind == b"\0" and name.endswith(b"/"):
            kind = _FOLDER
        yield from _member(stream, name, size, kind, names, budget, limits)


def _member(
    stream: _Stream,
    raw: bytes,
    size: int,
    kind: bytes,
    names: Names,
    budget: Budget,
    limits: ArchiveLimits,
) -> Iterator[tuple[str, bytes]]:
    try:
        name = raw.decode()
    except UnicodeDecodeError as error:
        raise ArchiveRejectedError(f"the name {shown(raw)} is not UTF-8") from error
    if kind not in _FILE + _FOLDER:
        raise ArchiveRejectedError(f"{shown(name)} is a link or a device")
    if kind in _FOLDER:
        names.accept(name, is_folder=True)
        return
    if size > limits.file_bytes:
        raise ArchiveRejectedError(f"{shown(name)} has more than {limits.file_bytes} bytes")
    path = names.accept(name)
    data = budget.read(stream.pieces(size), path or name)
    if path is not None:
        yield path, data


def _parsed(block: bytes) -> tuple[bytes, int, bytes]:
    """Return name, size and type of a header."""
    checksum = sum(block[:148]) + 8 * ord(" ") + sum(block[156:])
    if _number(block[148:156]) != checksum:
        raise ArchiveRejectedError("the archive is damaged: a header has a wrong checksum")
    name, kind = block[:100].partition(b"\0")[0], block[156:157]
    prefix = block[345:500].partition(b"\0")[0]
    if block[257:263] == b"ustar\0" and prefix and kind not in _LONG_NAME + _LONG_LINK:
        name = prefix + b"/" + name
    return name, _number(block[124:136]), kind


def _number(raw: bytes) -> int:
    """Parse a number of a header: octal, or binary where the first bit is set."""
    if raw[:1] == b"\xff":
        raise ArchiveRejectedError("the archive is damaged: a size is below zero")
    if raw[:1] == b"\x80":
        value = int.from_bytes(raw[1:], "big")
    else:
        digits = raw.partition(b"\0")[0].strip()
        if digits.strip(b"01234567"):
            raise ArchiveRejectedError(f"the archive is damaged: {shown(raw)} is no number")
        value = int(digits or b"0", 8)
    if value >= _LARGEST:
        raise ArchiveRejectedError("the archive is damaged: a size is absurd")
    return value


def _read_header(stream: _Stream, kind: bytes, size: int, headers: _Headers) -> None:
    if size > MOST_HEADER_BYTES or headers.count > MOST_HEADERS:
        raise ArchiveRejectedError("a header of the archive is too large")
    data = b"".join(stream.pieces(size))
    if kind in _LONG_NAME:
        headers.name = data.rstrip(b"\0")
    elif kind in _PAX + _PAX_GLOBAL:
        records = _records(data)
        if any(key.startswith(b"GNU.sparse.") for key in records):
            raise ArchiveRejectedError("sparse files are not taken in")
        if kind in _PAX_GLOBAL:
            if records.keys() & {b"path", b"size"}:
                raise ArchiveRejectedError("the archive gives all its files one name or size")
            return
        headers.name = records.get(b"path", headers.name)
        if b"size" in records:
            headers.size = _decimal(records[b"size"])


def _records(data: bytes) -> dict[bytes, bytes]:
    """Parse the records ``<length> <key>=<value>\\n`` of a pax header."""
    records = {}
    place = 0
    while place < len(data) and data[place : place + 1] != b"\0":
        digits = data[place : place + 20].partition(b" ")[0]
        length = _decimal(digits)
        record = data[place : place + length]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if length <= len(digits) + 1 or not equals or not key or record[-1:] != b"\n":
            raise ArchiveRejectedError("the archive is damaged: an extended header is malformed")
        records[key] = value
        place += length
    return records


def _decimal(digits: bytes) -> int:
    if not (digits.isdigit() and len(digits) < 19):
        raise ArchiveRejectedError(f"the archive is damaged: {shown(digits)} is no length")
    return int(digits)
