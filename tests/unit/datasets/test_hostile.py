"""Whatever is done to an archive: it is taken in or refused, within bounds, and nothing else."""

import io
import json
import tarfile
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.worker.datasets.archives import ArchiveLimits, ArchiveRejectedError
from services.worker.datasets.importing import Intake, take_in
from shared.images import ImageLimits
from tests.archives import picture, taken, zipped

MOST_MEMORY = 48 * 2**20
PHOTO = picture(1, size=(24, 24))
VOC = (
    b'<?xml version="1.0" encoding="gbk"?><annotation><filename>a.png</filename><size><width>24'
    b"</width><height>24</height></size><object><name>m</name><bndbox><xmin>1</xmin><ymin>2</ymin>"
    b"<xmax>20</xmax><ymax>20</ymax></bndbox></object></annotation>"
)
CVAT = (
    b'<annotations><version>1.1</version><image id="0" name="a.png" width="24" height="24">'
    b'<box label="m" xtl="1" ytl="2" xbr="20" ybr="20"/></image></annotations>'
)
COCO = json.dumps(
    {
        "images": [{"id": 1, "file_name": "a.png", "width": 24, "height": 24}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 19, 18]}],
        "categories": [{"id": 1, "name": "m"}],
    }
).encode()
SETS = (
    {"a/1.png": PHOTO, "b/2.png": picture(2, size=(24, 24)), "a/.DS_Store": b"x"},
    {"images/a.png": PHOTO, "annotations/a.xml": VOC},
    {"images/a.png": PHOTO, "annotations.xml": CVAT},
    {"images/a.png": PHOTO, "annotations/instances_default.json": COCO},
    {"images/a.png": PHOTO, "labels/a.txt": b"0 .5 .5 .5 .5", "data.yaml": b"names: [m]"},
)


def tarred(
    files: dict[str, bytes], *, mode: str = "w", tar_format: int = tarfile.PAX_FORMAT
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=tar_format) as archive:  # type: ignore[call-overload]
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size, info.mtime = len(data), 1.5  # type: ignore[assignment] # makes a pax header
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


ARCHIVES = [
    make(files)
    for files in SETS
    for make in (
        zipped,
        tarred,
        lambda files: tarred(files, mode="w:gz"),
        lambda files: tarred(files, tar_format=tarfile.GNU_FORMAT),
    )
]
LIMITS = ArchiveLimits(files=50, file_bytes=200_000, total_bytes=400_000)


def outcome(data: bytes) -> Intake | str:
    """Return what was taken in, or why nothing was; anything else is a crash."""
    try:
        return take_in(io.BytesIO(data), images=ImageLimits(max_pixels=100_000), archive=LIMITS)
    except ArchiveRejectedError as error:
        return str(error)


def check(data: bytes) -> None:
    tracemalloc.start()
    try:
        found = outcome(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST_MEMORY
    if isinstance(found, str):
        assert 0 < len(found) < 1000
        found.encode()  # no lone surrogates: it becomes JSON
        return
    assert found.items
    for item in found.items:
        item.model_dump_json()
        assert all(0 <= box.x0 < box.x1 <= item.width for box in item.boxes)
        assert all(0 <= box.y0 < box.y1 <= item.height for box in item.boxes)
    json.dumps(found.left_out).encode()


def test_the_archives_are_good() -> None:
    for data in ARCHIVES:
        assert isinstance(outcome(data), Intake)


QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
EDIT = st.tuples(
    st.sampled_from(["set", "insert", "delete", "copy", "cut"]),
    st.floats(0, 1),
    st.binary(min_size=1, max_size=12),
    st.integers(1, 600),
)


def edited(data: bytes, edits: list[tuple[str, float, bytes, int]]) -> bytes:
    for kind, share, new, size in edits:
        at = int(share * len(data))
        if kind == "set":
            data = data[:at] + new + data[at + len(new) :]
        elif kind == "insert":
            data = data[:at] + new + data[at:]
        elif kind == "delete":
            data = data[:at] + data[at + size :]
        elif kind == "copy":
            data = data[:at] + data[at : at + size] + data[at:]
        else:
            data = data[:at]
    return data


@QUICK
@given(st.sampled_from(ARCHIVES), st.lists(EDIT, min_size=1, max_size=4))
def test_damaged_archives(data: bytes, edits: list[tuple[str, float, bytes, int]]) -> None:
    check(edited(data, edits))


def with_checksum(header: bytes) -> bytes:
    total = sum(header[:148]) + 8 * 32 + sum(header[156:])
    return header[:148] + b"%06o\0 " % total + header[156:]


@QUICK
@given(
    st.sampled_from([data for data in ARCHIVES if data[257:262] == b"ustar"]),
    st.sampled_from([(0, 100), (124, 136), (156, 157), (257, 265), (345, 500)]),
    st.binary(max_size=155),
    st.integers(0, 3),
)
def test_tar_headers_with_right_checksums(
    data: bytes, place: tuple[int, int], new: bytes, number: int
) -> None:
    headers = [at for at in range(0, len(data), 512) if data[at + 257 : at + 262] == b"ustar"]
    at = headers[number % len(headers)]
    header = bytearray(data[at : at + 512])
    size = place[1] - place[0]
    header[place[0] : place[1]] = new[:size].ljust(size, b"\0")
    check(data[:at] + with_checksum(bytes(header)) + data[at + 512 :])


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.sampled_from(["a.png", "images", "", "../a.png", "\ud800", "1"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "image_id",
                    "category_id",
                    "bbox",
                    "segmentation",
                    "file_name",
                    "name",
                    "width",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@QUICK
@given(JSON, JSON, JSON)
def test_coco_of_any_shape(images: Any, annotations: Any, categories: Any) -> None:
    good = json.loads(COCO)
    document = {
        "images": [*good["images"], images],
        "annotations": [*good["annotations"], annotations],
        "categories": [*good["categories"], categories],
    }
    check(zipped({"images/a.png": PHOTO, "a.json": json.dumps(document).encode()}))
    check(zipped({"images/a.png": PHOTO, "a.json": json.dumps(images).encode()}))


@QUICK
@given(
    st.dictionaries(
        st.sampled_from(["names", "nc", "train", "val", "path", "kpt_shape"]),
        st.text(max_size=5) | st.lists(st.text(max_size=5), max_size=3) | st.integers(),
    ),
    st.text(max_size=40),
    st.binary(max_size=60),
)
def test_yolo_of_any_text(config: dict[str, Any], raw: str, labels: bytes) -> None:
    for text in (yaml.safe_dump(config), raw, "names: {" + "9" * 500 + ": a}"):
        check(
            zipped(
                {
                    "data.yaml": text.encode("utf-8", "replace"),
                    "classes.txt" if len(raw) % 2 else "notes.json": labels or b"m\n",
                    "images/a.png": PHOTO,
                    "images/b.png": picture(3, size=(24, 24)),
                    "labels/a.txt": labels,
                    "labels/b.txt": b"0 .5 .5 .5 .5",
                }
            )
        )


@QUICK
@given(st.sampled_from([VOC, CVAT]), st.lists(EDIT, min_size=1, max_size=3))
def test_damaged_xml(data: bytes, edits: list[tuple[str, float, bytes, int]]) -> None:
    check(zipped({"images/a.png": PHOTO, "annotations.xml": edited(data, edits)}))


@QUICK
@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
def test_files_of_any_content_beside_class_folders(
    first: bytes, second: bytes, third: bytes
) -> None:
    files = {
        "a.csv": first,
        "b.tsv": second,
        "c.yaml": third,
        "d.json": first + second,
        "notes.json": third,
        "e.xml": second + third,
        "a/1.txt": first,
        "train.txt": second,
        "ImageSets/Main/train.txt": third,
    }
    check(zipped({"a/1.png": PHOTO, "b/2.png": picture(2, size=(24, 24)), **files}))
    check(zipped({"a/1.png": PHOTO, "a/1.xml": VOC, **files}))


NUMBERS = st.floats() | st.integers(-(10**6), 10**6) | st.sampled_from(["", "1e999", "0x1", "１"])


@QUICK
@given(st.lists(NUMBERS, min_size=4, max_size=4), st.tuples(NUMBERS, NUMBERS), st.integers(1, 8))
def test_boxes_of_any_numbers(corners: list[Any], size: tuple[Any, Any], orientation: int) -> None:
    keys = ("xmin", "ymin", "xmax", "ymax")
    told = "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, corners, strict=True))
    xml = (
        f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>"
        f"<object><name>m</name><bndbox>{told}</bndbox></object></annotation>"
    )
    photo = picture(1, size=(32, 24), orientation=orientation, file_format="JPEG")
    check(zipped({"a.jpg": photo, "a.xml": xml.encode()}))


@pytest.mark.parametrize(
    "bomb",
    [
        lambda: b"[" * 2_000_000,
        lambda: b'{"images": [' + b"[]," * 60_000 + b"[]]}",
        lambda: b'{"images": ' + b"9" * 150_000 + b"}",
    ],
)
def test_json_bombs(bomb: Callable[[], bytes]) -> None:
    check(zipped({"images/a.png": PHOTO, "a.json": bomb()}))


def test_more_boxes_than_a_set_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.worker.datasets.layouts.base.MOST_BOXES_TOGETHER", 3)
    with pytest.raises(ArchiveRejectedError, match="more than 3 boxes"):
        taken({"classes.txt": b"m", "a.png": PHOTO, "a.txt": b"0 .5 .5 .5 .5\n" * 4})


def test_more_classes_than_a_set_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.worker.datasets.importing.MOST_CLASSES", 2)
    with pytest.raises(ArchiveRejectedError, match="more than 2 classes"):
        taken({f"{name}/{name}.png": picture(n) for n, name in enumerate("abc")})
