"""The small archives beside the checkout, each with its right answer."""

from pathlib import Path

import pytest

from tests.archives import boxes_of, taken_in

pytestmark = pytest.mark.shared_data
MASKS = ("with_mask", "without_mask")


@pytest.mark.parametrize(
    ("name", "classes", "pictures"),
    [
        ("ds_backslash", MASKS, 12),
        ("ds_mac_icon", MASKS, 12),
        ("ds_ipynb", MASKS, 12),
        ("ds_sjis", ("マスクなし", "マスク表示"), 12),
        ("ds_utf8_noflag", ("без_маски", "с_маской"), 12),
        ("ds_yolo", MASKS, 12),
        ("ds_coco", MASKS, 6),
        ("voc_exif", MASKS, 5),
        ("voc_resized", MASKS, 5),
        ("voc_oob2", MASKS, 5),
        ("voc_gbk", (*MASKS, "戴口罩"), 5),
    ],
)
def test_classes(shared_data: Path, name: str, classes: tuple[str, ...], pictures: int) -> None:
    intake = taken_in((shared_data.parent / "cases" / f"{name}.zip").read_bytes())
    assert intake.classes == classes
    assert len(intake.items) == pictures
    assert intake.left_out == []
    assert intake.report.boxes_left_out == 0


@pytest.mark.parametrize(
    ("name", "photo", "boxes"),
    [
        ("voc_exif", "e", [("with_mask", 130, 60, 250, 200)]),
        ("voc_resized", "r", [("with_mask", 50, 50, 200, 200)]),
        (
            "voc_oob2",
            "o",
            [("with_mask", 170, 60, 290, 200), ("without_mask", 400, 400, 512, 500)],
        ),
    ],
)
def test_boxes(
    shared_data: Path, name: str, photo: str, boxes: list[tuple[str, float, float, float, float]]
) -> None:
    intake = taken_in((shared_data.parent / "cases" / f"{name}.zip").read_bytes())
    assert boxes_of(intake)[f"JPEGImages/{photo}.jpg"] == boxes
