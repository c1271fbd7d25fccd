"""The files of a hostile archive, one by one.

ZIP and TAR (plain, gzip, bzip2, xz). Nothing is ever written to a path that an archive names.
"""

import bz2
import gzip
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from services.worker.datasets.archives.limits import ArchiveLimits, ArchiveRejectedError, cut, shown
from services.worker.datasets.archives.names import Names
from services.worker.datasets.archives.tar import BLOCK, tar_files
from services.worker.datasets.archives.zip import zip_files

_MAGIC = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)
# Told by name, since they are not read.
_FOREIGN = (
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!", "RAR"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"\x04\x22\x4d\x18", "LZ4"),
    (b"\x1f\x9d", "compress"),
    (b"MSCF", "CAB"),
    (b"PK\x07\x08", "divided ZIP"),
)
_UNPACK: dict[str, Callable[[IO[bytes]], Any]] = {
    "gzip": lambda file: gzip.GzipFile(fileobj=file),
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
    "tar": lambda file: file,
}
# What the standard library raises for damaged archives.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)


@dataclass(frozen=True)
class ArchivedFile:
    """A file's path within the archive, with ``/`` between folders, and its bytes."""

    path: str
    data: bytes


def archive_type(head: bytes) -> str | None:
    """Name the archive by its first 512 bytes; ``None`` for anything else."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    return "tar" if head[257:262] == b"ustar" else None


class Archive:
    """An archive to be read once, from front to end."""

    def __init__(self, file: IO[bytes], limits: ArchiveLimits) -> None:
        self._file, self._limits = file, limits
        self._names = Names(limits)

    @property
    def ignored(self) -> int:
        """How many files were left out as file managers' own."""
        return self._names.ignored

    def files(self) -> Iterator[ArchivedFile]:
        """Yield the files; raises ``ArchiveRejectedError``.

        Refused are absolute paths and those that leave the archive, links, devices, encrypted
        members, names that occur twice (or differ in case or accents' coding only), archives
        inside, and what exceeds the limits.
        """
        self._file.seek(0)
        head = self._file.read(BLOCK)
        kind = archive_type(head)
        self._file.seek(0)
        if kind is None:
            foreign = next((name for magic, name in _FOREIGN if head.startswith(magic)), None)
            told = f", but {foreign}: send a ZIP" if foreign else ""
            raise ArchiveRejectedError(f"this is neither a ZIP nor a TAR archive{told}")
        try:
            for path, data in self._read(kind):
                _refuse_nested(path, data)
                yield ArchivedFile(path, data)
        except ArchiveRejectedError:
            raise
        except _DAMAGED as error:
            raise ArchiveRejectedError(f"the archive is damaged: {cut(str(error))}") from error

    def _read(self, kind: str) -> Iterator[tuple[str, bytes]]:
        if kind == "zip":
            return zip_files(self._file, self._names, self._limits)
        return tar_files(_UNPACK[kind](self._file), self._names, self._limits)


def _refuse_nested(path: str, data: bytes) -> None:
    if archive_type(data[:BLOCK]) is not None:
        raise ArchiveRejectedError(f"{shown(path)} is an archive inside the archive")
