"""ZIP archives; names that they do not declare as UTF-8 are decoded as most of them read best."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

from services.worker.datasets.archives.encodings import best_encoding, decode_name
from services.worker.datasets.archives.limits import (
    ArchiveLimits,
    ArchiveRejectedError,
    Budget,
    pieces_of,
    shown,
)
from services.worker.datasets.archives.names import Names

_UTF8 = 0x800
_UNICODE_PATH = 0x7075
# A directory entry has 46 bytes, a name, and times: more than this on average is no program's work.
_MOST_ENTRY_BYTES = 512
_END, _END_BYTES = b"PK\x05\x06", 22
_END_64, _END_64_BYTES = b"PK\x06\x06", 56
_LOCATOR, _LOCATOR_BYTES = b"PK\x06\x07", 20
_LOCAL_BYTES = 30
_COMMENT = 1 << 16


def zip_files(file: IO[bytes], names: Names, limits: ArchiveLimits) -> Iterator[tuple[str, bytes]]:
    """Yield path and bytes of each file of a ZIP; raises ``ArchiveRejectedError``."""
    # zipfile reads the directory whole, whatever its size.
    if _directory_bytes(file) > _MOST_ENTRY_BYTES * 2 * limits.files:
        raise ArchiveRejectedError(f"there are more than {2 * limits.files} members")
    budget = Budget(limits)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > 2 * limits.files:
            raise ArchiveRejectedError(f"there are more than {2 * limits.files} members")
        _refuse_overlap(members)
        for member, name in zip(members, _decoded(members), strict=True):
            mode = member.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ArchiveRejectedError(f"{shown(name)} is a link or a device")
            if member.flag_bits & 1:
                raise ArchiveRejectedError(f"{shown(name)} is encrypted")
            path = names.accept(name, is_folder=member.is_dir())
            if path is None:
                continue
            with archive.open(member) as content:
                data = budget.read(pieces_of(content), path, packed=member.compress_size)
            yield path, data


def _refuse_overlap(members: list[zipfile.ZipInfo]) -> None:
    """Refuse entries that share bytes: what bombs do, and older interpreters read."""
    end = 0
    for member in sorted(members, key=lambda one: one.header_offset):
        if member.header_offset < end:
            raise ArchiveRejectedError("its members overlap")
        end = member.header_offset + _LOCAL_BYTES + member.compress_size


def _decoded(members: list[zipfile.ZipInfo]) -> list[str]:
    """Return the names as stored: zipfile cuts them at a zero byte, and changes separators."""
    undeclared = {
        number: member.orig_filename.encode("cp437")
        for number, member in enumerate(members)
        if not member.flag_bits & _UTF8
    }
    encoding = best_encoding(undeclared.values())
    found = []
    for number, member in enumerate(members):
        raw = undeclared.get(number)
        if raw is None:
            found.append(member.orig_filename)
        else:
            found.append(_unicode_path(member.extra, raw) or decode_name(raw, encoding))
    return found


def _unicode_path(extra: bytes, raw: bytes) -> str | None:
    """Return the name that Info-ZIP stores beside the other, if it still belongs to it."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and len(field) > 5 and field[0] == 1:
            if struct.unpack_from("<I", field, 1)[0] != zlib.crc32(raw):
                return None
            return field[5:].decode()
    return None


def _directory_bytes(file: IO[bytes]) -> int:
    """Return the size of the directory as the archive's end states it; 0 where there is none."""
    end = file.seek(0, 2)
    start = file.seek(max(0, end - _END_BYTES - _COMMENT))
    tail = file.read(_END_BYTES + _COMMENT)
    place = tail.rfind(_END)
    if place < 0 or place + _END_BYTES > len(tail):
        return 0
    size = int(struct.unpack_from("<I", tail, place + 12)[0])
    at = start + place - _LOCATOR_BYTES
    if at >= 0:
        file.seek(at)
        locator = file.read(_LOCATOR_BYTES)
        file.seek(max(0, at - _END_64_BYTES))
        end_64 = file.read(_END_64_BYTES)
        if locator.startswith(_LOCATOR) and end_64.startswith(_END_64):
            size = max(size, int(struct.unpack_from("<Q", end_64, 40)[0]))
    file.seek(0)
    return size
