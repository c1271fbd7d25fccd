"""Pascal VOC as LabelImg, CVAT, Roboflow and Label Studio write it."""

import codecs

import pytest

from services.worker.datasets.archives import ArchiveRejectedError
from services.worker.datasets.report import Change, Reason
from tests.archives import boxes_of, picture, taken

OBJECT = (
    "<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated>"
    "<difficult>0</difficult><bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax>"
    "<ymax>{3}</ymax></bndbox></object>"
)


def voc(
    *boxes: tuple[float, float, float, float],
    size: tuple[int, int] | None = (96, 96),
    name: str = "with_mask",
    filename: str = "x.jpg",
) -> str:
    stated = (
        "" if size is None else f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    )
    objects = "".join(OBJECT.format(*box, name=name) for box in boxes)
    return f"<annotation><filename>{filename}</filename>{stated}{objects}</annotation>"


GOOD = (10, 20, 50, 60)


def one(xml: str | bytes, photo: bytes | None = None) -> dict[str, bytes]:
    data = xml.encode() if isinstance(xml, str) else xml
    return {"JPEGImages/a.png": photo or picture(1), "Annotations/a.xml": data}


@pytest.mark.parametrize(
    ("orientation", "stored", "corners"),
    [
        # (60, 150, 200, 270) of 512 x 400 stored pixels; upright by hand
        (6, (512, 400), (130, 60, 250, 200)),
        (8, (512, 400), (150, 312, 270, 452)),
        (5, (512, 400), (150, 60, 270, 200)),
        (7, (512, 400), (130, 312, 250, 452)),
        (3, (512, 400), (312, 130, 452, 250)),  # sizes do not tell: as this format's programs do
        (6, (400, 400), (130, 60, 250, 200)),
    ],
)
def test_boxes_of_the_stored_frame_turn_with_the_photo(
    orientation: int, stored: tuple[int, int], corners: tuple[int, ...]
) -> None:
    photo = picture(1, size=stored, orientation=orientation, file_format="JPEG")
    intake = taken(one(voc((60, 150, 200, 270), size=stored), photo))
    assert boxes_of(intake) == {"JPEGImages/a.png": [("with_mask", *corners)]}
    assert intake.report.changes[Change.TURNED] == 1


def test_boxes_of_the_upright_frame_stay_and_decide_for_the_others() -> None:
    """One program annotated all: what a 4 x 3 photo tells holds for the square one."""
    files = {
        "a.jpg": picture(1, size=(400, 300), orientation=6, file_format="JPEG"),
        "a.xml": voc((10, 20, 60, 90), size=(300, 400)).encode(),
        "b.jpg": picture(2, size=(300, 300), orientation=6, file_format="JPEG"),
        "b.xml": voc((10, 20, 60, 90), size=(300, 300)).encode(),
    }
    assert boxes_of(taken(files)) == {
        "a.jpg": [("with_mask", 10, 20, 60, 90)],
        "b.jpg": [("with_mask", 10, 20, 60, 90)],
    }
    files["a.xml"] = voc((10, 20, 60, 90), size=(400, 300)).encode()
    turned = boxes_of(taken(files))
    assert turned["b.jpg"] == [("with_mask", 210, 10, 280, 60)]


def test_another_size_scales() -> None:
    intake = taken(one(voc((100, 100, 160, 180), size=(192, 192))))
    assert boxes_of(intake) == {"JPEGImages/a.png": [("with_mask", 50, 50, 80, 90)]}
    assert intake.report.changes[Change.SCALED] == 1


@pytest.mark.parametrize("size", [None, (0, 0)])
def test_no_size_is_the_photos_own(size: tuple[int, int] | None) -> None:
    assert boxes_of(taken(one(voc(GOOD, size=size)))) == {
        "JPEGImages/a.png": [("with_mask", *GOOD)]
    }


def test_a_little_over_the_edge_is_clipped() -> None:
    intake = taken(one(voc(GOOD, (60, 60, 98, 80))))
    assert boxes_of(intake)["JPEGImages/a.png"][1] == ("with_mask", 60, 60, 96, 80)
    assert intake.report.changes[Change.CLIPPED] == 1
    assert intake.report.boxes_left_out == 0


def test_one_bad_object_costs_itself_and_is_counted() -> None:
    nameless = OBJECT.format(*GOOD, name=" ")
    xml = voc(GOOD, (300, 300, 400, 400), (20, 20, 20, 40)).replace(
        "</annotation>",
        f"{nameless}<object><name>a</name></object>"
        "<object><name>a</name><bndbox><xmin>left</xmin></bndbox></object></annotation>",
    )
    intake = taken(one(xml))
    assert boxes_of(intake) == {"JPEGImages/a.png": [("with_mask", *GOOD)]}
    counts = {tally.reason: tally.boxes for tally in intake.report.tallies()}
    assert counts == {
        Reason.OUTSIDE: 1,
        Reason.NO_AREA: 1,
        Reason.NO_LABEL: 1,
        Reason.NO_BOX: 1,
        Reason.NOT_NUMBERS: 1,
    }
    outside = next(t for t in intake.report.tallies() if t.reason is Reason.OUTSIDE)
    assert outside.examples == (
        "Annotations/a.xml: a box lies outside of the photo's 96 x 96 pixels",
    )


@pytest.mark.parametrize(
    "encoding", ["gbk", "gb2312", "GB18030", "utf-8", "UTF-16", "utf-16-le", "big5"]
)
def test_chinese_in_the_declared_encoding(encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?>' + voc(GOOD, name="口罩")
    assert taken(one(text.encode(encoding))).classes == ("口罩",)


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("shift_jis", "マスク表示"),
        ("Windows-31J", "マスク①"),
        ("euc-jp", "マスク"),
        ("euc-kr", "마스크"),
        ("iso-8859-1", "masqué"),
        ("windows-1252", "masqué"),
        ("koi8-r", "маска"),
    ],
)
def test_other_declared_encodings(encoding: str, name: str) -> None:
    python_name = {"Windows-31J": "cp932"}.get(encoding, encoding)
    text = f"<?xml version='1.0' encoding='{encoding}' standalone='yes'?>" + voc(GOOD, name=name)
    assert taken(one(text.encode(python_name))).classes == (name,)


@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF8 + voc(GOOD, name="口罩").encode(),
        voc(GOOD, name="口罩").encode("utf-16"),
        voc(GOOD, name="口罩").encode("gbk"),  # declares nothing
        b'<?xml version="1.0" encoding="utf-8"?>' + voc(GOOD, name="口罩").encode("gbk"),
        b'<?xml version="1.0" encoding="utf-16"?>' + voc(GOOD, name="口罩").encode(),
        b'\r\n<?xml version="1.0"?>' + voc(GOOD, name="口罩").encode(),
    ],
)
def test_undeclared_encodings(data: bytes) -> None:
    assert taken(one(data)).classes == ("口罩",)


@pytest.mark.parametrize("encoding", ["hex", "zip", "unicode_escape", "idna", "nonsense"])
def test_what_is_no_encoding_of_text_is_refused(encoding: str) -> None:
    data = f'<?xml version="1.0" encoding="{encoding}"?>{voc(GOOD)}'.encode()
    with pytest.raises(ArchiveRejectedError, match="not well-formed"):
        taken(one(data))


def test_cvats_export() -> None:
    """CVAT writes ``ImageSets/Main/<subset>.txt`` and ``labelmap.txt``."""
    intake = taken(
        {
            "labelmap.txt": b"# label:color_rgb:parts:actions\nwith_mask:0,128,0::\n",
            "ImageSets/Main/train.txt": b"a\n",
            "ImageSets/Main/val.txt": b"b\n",
            "Annotations/a.xml": voc(GOOD).encode(),
            "Annotations/b.xml": voc(GOOD).encode(),
            "JPEGImages/a.png": picture(1),
            "JPEGImages/b.png": picture(2),
        }
    )
    assert {item.path: item.split for item in intake.items} == {
        "JPEGImages/a.png": "train",
        "JPEGImages/b.png": "val",
    }
    assert intake.left_out == []


def test_roboflows_export() -> None:
    """Roboflow lays photos and XML files together, a folder a split."""
    name = "a_png.rf.0123456789abcdef"
    intake = taken(
        {
            "README.dataset.txt": b"# masks > 2024",
            "README.roboflow.txt": b"masks - v1",
            f"train/{name}.jpg": picture(1),
            f"train/{name}.xml": voc(GOOD).encode(),
            f"valid/{name}.jpg": picture(2),
            f"valid/{name}.xml": voc(GOOD).encode(),
        }
    )
    assert [item.split for item in intake.items] == ["train", "val"]
    assert intake.left_out == []


def test_the_file_name_inside_counts_where_the_files_name_says_nothing() -> None:
    intake = taken(
        {
            "photos/IMG_1.png": picture(1),
            "annotations/0001.xml": voc(GOOD, filename="IMG_1.png").encode(),
            "annotations/0002.xml": voc(GOOD, filename="IMG_2.png").encode(),
        }
    )
    assert list(boxes_of(intake)) == ["photos/IMG_1.png"]
    assert dict(intake.left_out) == {"annotations/0002.xml": "there is no photo for it"}
