"""Names in archives: in which encoding they are, and which of them are no part of a data set."""

import struct
import zlib

import pytest

from services.worker.datasets.archives.encodings import best_encoding, decode_name
from tests.archives import picture, taken, taken_in, zipped_raw


def class_folders(names: tuple[bytes, ...], separator: bytes = b"/") -> dict[bytes, bytes]:
    return {
        separator.join((name, b"%d.png" % number)): picture(10 * place + number)
        for place, name in enumerate(names)
        for number in range(3)
    }


@pytest.mark.parametrize(
    ("names", "encoding"),
    [
        (("マスク表示", "マスクなし"), "cp932"),
        (("着用", "未着用"), "cp932"),
        (("正しい装着", "鼻出しマスク"), "cp932"),
        (("戴口罩", "没戴口罩"), "gbk"),
        (("佩戴", "未佩戴"), "gbk"),
        (("正确佩戴口罩", "露出鼻子"), "gbk"),
        (("с_маской", "без_маски"), "utf-8"),
        (("マスク表示", "なし"), "utf-8"),
        (("戴口罩", "没戴"), "utf-8"),
        (("máscara", "sin_máscara"), "cp437"),
        (("Gesichtsmaske für Köche", "größer"), "cp437"),
        (("masqué", "démasqué"), "cp437"),
        (("με", "χωρίς μάσκα"), "utf-8"),
    ],
)
@pytest.mark.parametrize("separator", [b"/", b"\\"])
def test_undeclared_names_are_decoded_as_they_read_best(
    names: tuple[str, str], encoding: str, separator: bytes
) -> None:
    raw = tuple(name.encode(encoding) for name in names)
    intake = taken_in(zipped_raw(class_folders(raw, separator)))
    assert intake.classes == tuple(sorted(names))
    assert len(intake.items) == 6


def test_a_trail_byte_that_is_a_backslash_is_no_separator() -> None:
    name = "表".encode("cp932")
    assert name.endswith(b"\\")
    files = class_folders((name + "マスク".encode("cp932"), "なし".encode("cp932")))
    assert taken_in(zipped_raw(files)).classes == ("なし", "表マスク")


def test_one_name_in_another_encoding_is_decoded_by_itself() -> None:
    names = ["マスクあり".encode("cp932")] * 5 + ["é".encode()]
    encoding = best_encoding(names)
    assert encoding == "cp932"
    assert decode_name("マスク".encode("cp932"), encoding) == "マスク"
    assert decode_name("без_маски".encode(), encoding) == "без_маски"


def test_the_name_beside_the_name_counts() -> None:
    """Info-ZIP stores UTF-8 in an extra field (0x7075), with a checksum of the name it replaces."""
    raw, name = b"mask/1.png", "маска/1.png".encode()
    field = struct.pack("<BI", 1, zlib.crc32(raw)) + name
    extra = struct.pack("<HH", 0x7075, len(field)) + field
    data = zipped_raw({raw: picture(1)})
    local = data.index(raw) + len(raw)
    start = data.index(b"PK\x01\x02")
    central = data.index(raw, start) + len(raw)
    data = bytearray(data[:local] + data[local:central] + extra + data[central:])
    data[start + 30 : start + 32] = struct.pack("<H", len(extra))
    end = data.index(b"PK\x05\x06")
    size = struct.unpack_from("<I", data, end + 12)[0]
    data[end + 12 : end + 16] = struct.pack("<I", size + len(extra))
    # The local header keeps the old name, which zipfile compares with the directory's old name.
    assert taken_in(bytes(data)).classes == ("маска",)


@pytest.mark.parametrize(
    "path",
    [
        "__MACOSX/with_mask/._1.png",
        "with_mask/._1.png",
        "with_mask/.DS_Store",
        "with_mask/Thumbs.db",
        "with_mask/THUMBS.DB",
        "with_mask/ehthumbs.db",
        "with_mask/desktop.ini",
        "with_mask/Icon\r",
        "Icon\r",
        "with_mask/Icon\uf00d",
        "with_mask/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg",
        ".ipynb_checkpoints/1-checkpoint.png",
        "with_mask/.ipynb_checkpoints/1-checkpoint.png",
        ".git/HEAD",
        "$RECYCLE.BIN/1.png",
        "System Volume Information/1.png",
        "#recycle/1.png",
        ".hidden.png",
    ],
)
def test_what_programs_leave_behind_is_ignored(path: str) -> None:
    files = {f"{name}/{n}.png": picture(n) for n, name in enumerate(("with_mask", "without_mask"))}
    intake = taken({**files, path: picture(9)})
    assert intake.classes == ("with_mask", "without_mask")
    assert len(intake.items) == 2
    assert intake.left_out == []
    assert intake.report.ignored == 1


def test_a_root_folder_with_litter_beside_is_no_class() -> None:
    intake = taken(
        {
            "photos/with_mask/1.png": picture(1),
            "photos/without_mask/2.png": picture(2),
            "photos/Icon\r": b"",
            "photos/readme.txt": b"made in May",
            "photos/loose.png": picture(3),
        }
    )
    assert intake.classes == ("with_mask", "without_mask")
    assert dict(intake.left_out) == {
        "photos/readme.txt": "it is no picture",
        "photos/loose.png": "it lies in no class folder",
    }


def test_accents_that_macos_takes_apart_are_one_class() -> None:
    apart, together = "masque\u0301", "masqu\u00e9"
    intake = taken({f"{apart}/1.png": picture(1), f"{together}/2.png": picture(2)})
    assert intake.classes == (together,)
