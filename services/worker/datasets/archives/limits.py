"""What an archive may hold at most, counted as it is unpacked and not as the archive claims."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

PIECE = 1 << 16


class ArchiveRejectedError(ValueError):
    """The archive is damaged, or not one that can be taken in; says why."""


@dataclass(frozen=True)
class ArchiveLimits:
    """Most files, bytes of one file, and bytes of all files unpacked."""

    files: int = 50_000
    file_bytes: int = 32 * 2**20
    total_bytes: int = 2**30
    # A picture is hardly compressible, text is about ten to one; bombs are a thousand to one.
    ratio: int = 200


def shown(name: str | bytes, most: int = 100) -> str:
    """Quote a stranger's name for a sentence: escaped, and cut with its length said."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    if len(text) <= most:
        return ascii(text) if not text.isprintable() else repr(text)
    return f"{shown(text[:most])}… ({len(text)} characters)"


def cut(text: str, most: int = 200) -> str:
    """Shorten a text for a sentence, its length said."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


class Budget:
    """Counts what is unpacked; raises ``ArchiveRejectedError`` beyond the limits."""

    def __init__(self, limits: ArchiveLimits) -> None:
        self._limits = limits
        self._total = 0

    def read(self, pieces: Iterator[bytes], path: str, *, packed: int | None = None) -> bytes:
        """Join a file's pieces; ``packed`` is what it takes in the archive."""
        most = self._limits.file_bytes
        if packed is not None:
            most = min(most, max(PIECE, packed * self._limits.ratio))
        found, size = [], 0
        for piece in pieces:
            size += len(piece)
            self._total += len(piece)
            if size > most:
                raise ArchiveRejectedError(f"{shown(path)} unpacks to more than {most} bytes")
            if self._total > self._limits.total_bytes:
                raise ArchiveRejectedError(
                    f"the files unpack to more than {self._limits.total_bytes} bytes"
                )
            found.append(piece)
        return b"".join(found)


def pieces_of(file: IO[bytes]) -> Iterator[bytes]:
    """Read a file to its end, piece by piece."""
    while piece := file.read(PIECE):
        yield piece
