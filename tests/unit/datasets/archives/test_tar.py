"""Our TAR reader against the standard library's, on what programs write."""

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.worker.datasets.archives import Archive, ArchiveLimits, ArchiveRejectedError

LETTERS = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="/\\:")
PART = st.text(LETTERS, min_size=1, max_size=60).map(lambda text: f"x{text}")
PATH = st.lists(PART, min_size=1, max_size=6).map(lambda parts: "/".join((*parts, "1.png")))
# Never the beginning of an archive: those are refused.
CONTENT = st.binary(max_size=1100).map(lambda data: data and b"." + data)
FORMATS = {
    "pax": tarfile.PAX_FORMAT,
    "gnu": tarfile.GNU_FORMAT,
    "ustar": tarfile.USTAR_FORMAT,
}


def read(data: bytes) -> dict[str, bytes]:
    return {f.path: f.data for f in Archive(io.BytesIO(data), ArchiveLimits()).files()}


@settings(deadline=None)
@given(
    st.dictionaries(PATH, CONTENT, min_size=1, max_size=5),
    st.sampled_from(sorted(FORMATS)),
    st.floats(0, 2e9),
)
def test_it_reads_what_the_standard_library_reads(
    files: dict[str, bytes], name: str, time: float
) -> None:
    buffer = io.BytesIO()
    try:
        with tarfile.open(fileobj=buffer, mode="w", format=FORMATS[name]) as archive:
            for path, data in files.items():
                info = tarfile.TarInfo(path)
                info.size, info.mtime = len(data), time  # type: ignore[assignment]
                archive.addfile(info, io.BytesIO(data))
    except ValueError:  # ustar holds no long names
        return
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as archive:
        members = [(member.name, archive.extractfile(member)) for member in archive]
        reference = {path: member.read() for path, member in members if member is not None}
    try:
        found = read(buffer.getvalue())
    except ArchiveRejectedError as error:
        # Names that differ in case or accents' coding only, and those longer than any file's.
        assert "occurs twice" in str(error) or "has the name" in str(error)  # noqa: PT017
        return
    assert list(found.values()) == list(reference.values())
    if all(path.isascii() for path in reference):
        assert found == reference


def test_folders_labels_and_old_formats() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        label = tarfile.TarInfo("backup of May")
        label.type = b"V"
        archive.addfile(label)
        folder = tarfile.TarInfo("a")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        info = tarfile.TarInfo("./a/1.png")
        info.type, info.size = tarfile.AREGTYPE, 3
        archive.addfile(info, io.BytesIO(b"one"))
    assert read(buffer.getvalue()) == {"a/1.png": b"one"}


def test_a_member_larger_than_octal_digits_can_say() -> None:
    info = tarfile.TarInfo("a/1.png")
    info.size = 8**11 + 1  # in binary, as GNU tar writes it
    with pytest.raises(ArchiveRejectedError, match=r"'a/1.png' has more than"):
        read(info.tobuf(tarfile.GNU_FORMAT))
