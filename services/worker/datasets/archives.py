"""Hostile archives: their files one by one, within limits, or an error that says what is wrong.

ZIP and TAR (plain, gzip, bzip2, xz). Nothing is ever written to a path that an archive names.
"""

import bz2
import gzip
import lzma
import re
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

_MAGIC = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)
_NESTED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
# Left behind by file managers; never part of a data set.
_JUNK = re.compile(r"(^|/)(__MACOSX(/|$)|\.DS_Store$|Thumbs\.db$|desktop\.ini$|\._)")
_READ = 1 << 16
_TAR_BLOCK = 512
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    UnicodeDecodeError,
)


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


def archived_files(file: IO[bytes], limits: ArchiveLimits) -> Iterator[ArchivedFile]:
    """Yield the files of an archive; raises ``ArchiveRejectedError``.

    Refused are absolute paths and those that leave the archive, links, devices, encrypted members,
    names that occur twice (or differ in case or accents' coding only), archives inside, and what
    exceeds the limits, counted as it is unpacked and not as the archive claims.
    """
    file.seek(0)
    kind = archive_type(file.read(_TAR_BLOCK))
    file.seek(0)
    if kind is None:
        raise ArchiveRejectedError("this is neither a ZIP nor a TAR archive")
    names = _Names(limits)
    try:
        yield from (_zip_files if kind == "zip" else _tar_files)(file, kind, names, limits)
    except ArchiveRejectedError:
        raise
    except _DAMAGED as error:
        raise ArchiveRejectedError(f"the archive is damaged: {str(error)[:200]}") from error


class _Names:
    """Checks names, and counts."""

    def __init__(self, limits: ArchiveLimits) -> None:
        self._limits = limits
        self._seen: set[str] = set()
        self._total = 0

    def accept(self, name: str) -> str | None:
        """Return the path of a file, or ``None`` for one to leave out."""
        shown = repr(name[:100])
        if not name or len(name) > 1000 or any(ord(letter) < 32 for letter in name):
            raise ArchiveRejectedError(f"a member has the name {shown}")
        if "\\" in name or name.startswith("/") or re.match(r"^[A-Za-z]:", name):
            raise ArchiveRejectedError(f"the path {shown} is not relative")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise ArchiveRejectedError(f"the path {shown} leaves the archive")
        path = "/".join(parts)
        if not path or _JUNK.search(path):
            return None
        if path.lower().endswith(_NESTED):
            raise ArchiveRejectedError(f"{shown} is an archive inside the archive")
        key = unicodedata.normalize("NFC", path).casefold()
        if key in self._seen:
            raise ArchiveRejectedError(f"the path {shown} occurs twice")
        self._seen.add(key)
        if len(self._seen) > self._limits.files:
            raise ArchiveRejectedError(f"there are more than {self._limits.files} files")
        return path

    def read(self, file: IO[bytes], path: str, *, packed: int | None) -> bytes:
        """Read a member within the limits; ``packed`` is what it takes in the archive."""
        most = self._limits.file_bytes
        if packed is not None:
            most = min(most, max(_READ, packed * self._limits.ratio))
        pieces, size = [], 0
        while piece := file.read(_READ):
            size += len(piece)
            self._total += len(piece)
            if size > most:
                raise ArchiveRejectedError(f"{path[:100]!r} unpacks to more than {most} bytes")
            if self._total > self._limits.total_bytes:
                raise ArchiveRejectedError(
                    f"the files unpack to more than {self._limits.total_bytes} bytes"
                )
            pieces.append(piece)
        data = b"".join(pieces)
        if archive_type(data[:_TAR_BLOCK]) is not None:
            raise ArchiveRejectedError(f"{path[:100]!r} is an archive inside the archive")
        return data


def _zip_files(
    file: IO[bytes], kind: str, names: _Names, limits: ArchiveLimits
) -> Iterator[ArchivedFile]:
    del kind
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > 2 * limits.files:
            raise ArchiveRejectedError(f"there are more than {2 * limits.files} members")
        for member in members:
            mode = member.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ArchiveRejectedError(f"{member.filename[:100]!r} is a link or a device")
            if member.flag_bits & 1:
                raise ArchiveRejectedError(f"{member.filename[:100]!r} is encrypted")
            # The name as stored: zipfile cuts it at a zero byte, and changes separators.
            path = names.accept(member.orig_filename.rstrip("/") or member.orig_filename)
            if member.is_dir() or path is None:
                continue
            with archive.open(member) as content:
                data = names.read(content, path, packed=member.compress_size)
            yield ArchivedFile(path, data)


def _tar_files(
    file: IO[bytes], kind: str, names: _Names, limits: ArchiveLimits
) -> Iterator[ArchivedFile]:
    # What a folder, a header or padding takes besides the files' own bytes.
    most = limits.total_bytes + 8 * _TAR_BLOCK * limits.files
    stream = _Bounded(_unpacked(file, kind), most, limits.file_bytes + _READ)
    with tarfile.open(fileobj=stream, mode="r:") as archive:  # type: ignore[call-overload]
        for member in archive:
            if not (member.isreg() or member.isdir()):
                raise ArchiveRejectedError(f"{member.name[:100]!r} is a link or a device")
            if member.size > limits.file_bytes:
                raise ArchiveRejectedError(
                    f"{member.name[:100]!r} has more than {limits.file_bytes} bytes"
                )
            path = names.accept(member.name)
            if member.isdir() or path is None:
                continue
            content = archive.extractfile(member)
            if content is None:
                raise ArchiveRejectedError(f"{member.name[:100]!r} cannot be read")
            yield ArchivedFile(path, names.read(content, path, packed=None))


def _unpacked(file: IO[bytes], kind: str) -> Any:
    if kind == "gzip":
        return gzip.GzipFile(fileobj=file)
    if kind == "bzip2":
        return bz2.BZ2File(file)
    if kind == "xz":
        return lzma.LZMAFile(file)
    return file


class _Bounded:
    """A stream that ends in an error past ``most`` bytes, or when too much is asked for at once."""

    def __init__(self, file: Any, most: int, at_once: int) -> None:
        self._file, self._most, self._at_once = file, most, at_once

    def read(self, size: int = -1) -> bytes:
        # A header may claim any size, and tarfile would read it whole.
        if size < 0 or size > self._at_once:
            raise ArchiveRejectedError("a header of the archive is too large")
        data: bytes = self._file.read(size)
        self._check(self._file.tell())
        return data

    def seek(self, position: int) -> int:
        self._check(position)
        return int(self._file.seek(position))

    def tell(self) -> int:
        return int(self._file.tell())

    def _check(self, position: int) -> None:
        if position > self._most:
            raise ArchiveRejectedError(f"the archive unpacks to more than {self._most} bytes")
