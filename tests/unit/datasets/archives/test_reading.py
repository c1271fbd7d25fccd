"""Archives from strangers: every trick has its refusal."""

import gzip
import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable

import pytest

from services.worker.datasets.archives import Archive, ArchiveLimits, ArchiveRejectedError

LIMITS = ArchiveLimits(files=10, file_bytes=100_000, total_bytes=200_000)


def zipped(
    *members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_STORED
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data, compress_type=method)
    return buffer.getvalue()


def tarred(*members: tuple[str, bytes] | tarfile.TarInfo, mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            archive.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def read(data: bytes, limits: ArchiveLimits = LIMITS) -> dict[str, bytes]:
    return {file.path: file.data for file in Archive(io.BytesIO(data), limits).files()}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_in_every_coding(mode: str) -> None:
    files = {"a/1.jpg": b"one" * 100, "b/2.jpg": b"two"}
    assert read(tarred(*files.items(), mode=mode)) == files


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_in_every_coding(method: int) -> None:
    files = {"a/1.jpg": b"one" * 100, "b/2.jpg": b"two"}
    assert read(zipped(*files.items(), method=method)) == files


def test_what_file_managers_leave_behind_is_no_part_of_it() -> None:
    data = zipped(
        ("a/1.jpg", b"one"), ("__MACOSX/a/._1.jpg", b"x"), ("a/.DS_Store", b"x"), ("a/", b"")
    )
    assert read(data) == {"a/1.jpg": b"one"}


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "../../etc/passwd"
    return info


def zip_link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def encrypted() -> bytes:
    data = bytearray(zipped(("a/1.jpg", b"one")))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.index(signature) + offset
        data[place] |= 1
    return bytes(data)


def claims_little() -> bytes:
    """Return a ZIP whose directory claims fewer bytes than there are."""
    data = bytearray(zipped(("a/1.jpg", b"\0" * 150_000), method=zipfile.ZIP_DEFLATED))
    place = data.index(b"PK\x01\x02") + 24
    data[place : place + 4] = struct.pack("<I", 10)
    return bytes(data)


def huge_header() -> bytes:
    """Return a TAR whose extended header claims 100 MB."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 100_000_000
    return gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) + b"\0" * 100_000_000)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (lambda: zipped(("../a.jpg", b"x")), "leaves the archive"),
        (lambda: zipped(("a/../../b.jpg", b"x")), "leaves the archive"),
        (lambda: zipped(("/a.jpg", b"x")), "not relative"),
        (lambda: zipped(("C:/a.jpg", b"x")), "not relative"),
        (lambda: zipped(("\\\\server\\b.jpg", b"x")), "not relative"),
        (lambda: zipped(("C:\\b.jpg", b"x")), "not relative"),
        (lambda: zipped(("a\\..\\..\\b.jpg", b"x")), "leaves the archive"),
        (lambda: zipped(("a\x01.jpg", b"x")), "has the name"),
        (lambda: tarred(("../a.jpg", b"x")), "leaves the archive"),
        (lambda: tarred(("/a.jpg", b"x")), "not relative"),
        (lambda: tarred(link("a", tarfile.SYMTYPE)), "link or a device"),
        (lambda: tarred(link("a", tarfile.LNKTYPE)), "link or a device"),
        (lambda: tarred(link("a", tarfile.CHRTYPE)), "link or a device"),
        (lambda: tarred(link("a", tarfile.FIFOTYPE)), "link or a device"),
        (lambda: zipped((zip_link("a"), b"/etc/passwd")), "link or a device"),
        (lambda: zipped(("a/1.jpg", b"x"), ("A/1.JPG", b"y")), "occurs twice"),
        (lambda: zipped(("e\u0301.jpg", b"x"), ("\u00e9.jpg", b"y")), "occurs twice"),
        (lambda: tarred(("a/1.jpg", b"x"), ("a/1.jpg", b"y")), "occurs twice"),
        (lambda: zipped(("a/inner.zip", b"x")), "archive inside"),
        (lambda: zipped(("a/innocent.jpg", zipped(("b", b"x")))), "archive inside"),
        (lambda: tarred(("a/innocent.jpg", gzip.compress(b"x"))), "archive inside"),
        (encrypted, "encrypted"),
        (lambda: zipped(*((f"{n}.jpg", b"x") for n in range(11))), "more than 10 files"),
        (lambda: zipped(("a.jpg", b"x" * 100_001)), "more than 100000 bytes"),
        (lambda: tarred(("a.jpg", b"x" * 100_001)), "more than 100000 bytes"),
        (lambda: zipped(*((f"{n}.jpg", b"x" * 90_000) for n in range(3))), "200000 bytes"),
        (lambda: tarred(*((f"{n}.jpg", b"x" * 90_000) for n in range(3))), "unpacks to more"),
        (lambda: zipped(("a.jpg", b"\0" * 99_000), method=zipfile.ZIP_DEFLATED), "unpacks to"),
        (claims_little, "damaged|unpacks to"),
        (huge_header, "header of the archive is too large"),
        (lambda: zipped(("a.jpg", b"x" * 5000))[:-30], "damaged"),
        (lambda: gzip.compress(b"no tar at all" * 100), "damaged"),
        (lambda: tarred(("a.jpg", b"x" * 5000), mode="w:gz")[:60], "damaged"),
        (lambda: b"Rar!\x1a\x07\x01\x00", "but RAR: send a ZIP"),
        (lambda: b"7z\xbc\xaf\x27\x1c\x00\x04", "but 7z: send a ZIP"),
        (lambda: b"just some text", "neither a ZIP nor a TAR"),
        (lambda: b"", "neither a ZIP nor a TAR"),
    ],
)
def test_refused(data: Callable[[], bytes], says: str) -> None:
    with pytest.raises(ArchiveRejectedError, match=says):
        read(data())
