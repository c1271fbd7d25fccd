"""Hostile uploads end as problems; what hangs is ended by whoever stops the job."""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from services.worker.jobs import import_dataset
from services.worker.stopping import Stopped, StopReason
from shared.problems import Problem
from shared.specs.import_dataset import ImportDatasetSpec
from tests import isolated_functions
from tests.archives import picture, zipped

Make = Callable[..., Any]
SPEC = ImportDatasetSpec(name="theirs")


def header(name: str, *, kind: bytes = tarfile.REGTYPE, size: int = 0) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def backwards() -> bytes:
    """A member of a size below zero: readers that believe it read it again, for ever."""
    photo = padded(picture(1, size=(64, 64)))
    back = bytearray(header(".DS_Store"))
    back[124:136] = b"\xff" * 10 + struct.pack(">h", -512)
    back[148:156] = b" " * 8
    back[148:156] = b"%06o\0 " % sum(back)
    return (
        header("a/1.png", size=len(picture(1, size=(64, 64)))) + photo + bytes(back) + bytes(1024)
    )


def digits(kind: bytes) -> bytes:
    """A pax header of 15 million digits, which a regular expression reads in quadratic time."""
    data = b"1" * 15_000_000
    return gzip.compress(header("x", kind=kind, size=len(data)) + padded(data) + bytes(1024))


def pax(record: bytes) -> bytes:
    photo = picture(1)
    return (
        header("x", kind=tarfile.XHDTYPE, size=len(record))
        + padded(record)
        + header("a/1.png", size=len(photo))
        + padded(photo)
        + bytes(1024)
    )


def not_utf8() -> bytes:
    photo = picture(1)
    data = header("aaa/1.png", size=len(photo)) + padded(photo) + bytes(1024)
    raw = bytearray(data)
    raw[0:3] = b"\xe9\xff\xfe"
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    return bytes(raw)


def overlapping() -> bytes:
    """Many entries of one file's bytes (Fifield 2019)."""
    data = bytearray(zipped({"a/1.png": bytes(30_000)}))
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry = bytes(data[start:end])
    entries = [entry.replace(b"a/1.png", b"a/%d.png" % n) for n in range(1, 9)]
    tail = bytearray(data[end:])
    tail[8:12] = struct.pack("<HH", len(entries), len(entries))
    tail[12:16] = struct.pack("<I", sum(map(len, entries)))
    return bytes(data[:start]) + b"".join(entries) + bytes(tail)


def many_entries() -> bytes:
    """A directory of a million entries, which zipfile would read whole."""
    entry = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, *[0] * 16)
    tail = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 65535, 65535, len(entry) * 1_200_000, 0, 0)
    return b"PK\x03\x04" + entry * 1_200_000 + tail


def large_dictionary() -> bytes:
    """A ZIP whose member asks LZMA for a dictionary of 4 GB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a/1.png", picture(1))
    data = bytearray(buffer.getvalue())
    start = data.index(b"a/1.png") + len(b"a/1.png")
    data[start + 5 : start + 9] = b"\xff\xff\xff\xff"
    return bytes(data)


@pytest.mark.parametrize(
    ("upload", "says"),
    [
        (backwards, "a size is below zero"),
        (lambda: digits(tarfile.XHDTYPE), "header of the archive is too large"),
        (lambda: digits(tarfile.XGLTYPE), "header of the archive is too large"),
        (lambda: digits(tarfile.GNUTYPE_LONGNAME), "header of the archive is too large"),
        (lambda: pax(b"1" * 900_000), "is no length"),
        (lambda: pax(b"12 size=-512\n"), "malformed|is no length"),
        (lambda: pax(b"13 size=-512\n"), "is no length"),
        (lambda: pax(b"23 size=" + b"9" * 14 + b"\n"), "has more than"),
        (lambda: pax(b"29 GNU.sparse.major=1" + b"0" * 7 + b"\n"), "sparse"),
        (lambda: pax(b"15 path=a/\xff\xfe.\n"), "is not UTF-8"),
        (not_utf8, "is not UTF-8"),
        (overlapping, "overlap"),
        (many_entries, "more than 100000 members"),
        (lambda: zipped({"a/\ud83d.png".encode("utf-16", "surrogatepass").hex(): b""}), "used"),
    ],
)
def test_hostile_archives_are_refused(
    context_of: Make, upload: Callable[[], bytes], says: str
) -> None:
    context = context_of()
    context.uploaded = upload()
    with pytest.raises(Problem, match=says) as caught:
        import_dataset.run(context, SPEC)
    assert caught.value.slug == "invalid-archive"
    assert len(caught.value.detail) < 1000


def test_memory_that_an_archive_asks_for_is_bounded(context_of: Make) -> None:
    context = context_of()
    context.uploaded = large_dictionary()
    with pytest.raises(Problem, match=r"needs more than \d+ bytes of memory|damaged") as caught:
        import_dataset.run(context, SPEC)
    assert caught.value.slug == "invalid-archive"


@pytest.mark.parametrize(
    "film",
    [
        b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 40,
        b"\x1aE\xdf\xa3" + bytes(range(256)) * 40,
        b"RIFF\xff\xff\xff\x7fAVI LIST" + b"\xff" * 5000,
    ],
)
def test_hostile_films_are_refused(context_of: Make, film: bytes) -> None:
    context = context_of()
    context.uploaded = film
    with pytest.raises(Problem, match="video") as caught:
        import_dataset.run(context, ImportDatasetSpec(name="theirs", label="a"))
    assert caught.value.slug == "invalid-archive"


@pytest.mark.parametrize("reason", ["canceled", "deadline", "lease lost", "hand back"])
def test_an_import_that_hangs_is_killed_whatever_stops_it(
    context_of: Make, monkeypatch: pytest.MonkeyPatch, reason: StopReason
) -> None:
    """It holds its interpreter's lock within one call: nothing inside of it could stop it."""
    hangs = f"{isolated_functions.__name__}:pack_forever"
    monkeypatch.setattr(import_dataset, "FUNCTION", hangs)
    context = context_of()
    context.uploaded = zipped({"a/1.png": picture(1)})
    seen: list[int] = []

    def progress(done: int, total: int, message: str = "", **data: Any) -> None:
        seen.append(int(message))
        context.stop = Stopped(reason)

    context.progress = progress
    with pytest.raises(Stopped) as caught:
        import_dataset.run(context, SPEC)
    assert caught.value.reason == reason
    assert not isolated_functions.is_alive(seen[0])
    assert context.packs == {}


def test_a_crash_of_a_decoder_is_a_problem(
    context_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_dataset, "FUNCTION", f"{isolated_functions.__name__}:crash_on")
    context = context_of()
    context.uploaded = b"x"
    with pytest.raises(Problem, match="crashed on it") as caught:
        import_dataset.run(context, SPEC)
    assert caught.value.slug == "invalid-archive"
