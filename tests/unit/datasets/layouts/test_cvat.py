"""CVAT for images 1.1."""

import pytest

from services.worker.datasets.archives import ArchiveRejectedError
from services.worker.datasets.report import Reason
from tests.archives import boxes_of, picture, taken

HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task>'
    "<id>1</id><name>masks</name><size>1</size><mode>annotation</mode><labels><label>"
    "<name>with_mask</name><type>any</type></label></labels></task></meta>"
)
BOX = (
    '<box label="with_mask" source="manual" occluded="0" xtl="10.5" ytl="20.0" xbr="40.0" '
    'ybr="60.25" z_order="0"><attribute name="sure">yes</attribute></box>'
)


def cvat(*images: str) -> bytes:
    return f"{HEAD}{''.join(images)}</annotations>".encode()


def image(name: str, shapes: str, size: tuple[int, int] = (96, 96), subset: str = "") -> str:
    told = f' subset="{subset}"' if subset else ""
    return (
        f'<image id="0" name="{name}"{told} width="{size[0]}" height="{size[1]}">{shapes}</image>'
    )


def test_an_export_of_a_task() -> None:
    intake = taken({"annotations.xml": cvat(image("a.png", BOX)), "images/a.png": picture(1)})
    assert (intake.layout, intake.format) == ("boxes", "CVAT for images")
    assert boxes_of(intake) == {"images/a.png": [("with_mask", 10.5, 20, 40, 60.25)]}
    assert intake.left_out == []


def test_an_export_of_a_project_has_subsets() -> None:
    intake = taken(
        {
            "annotations.xml": cvat(
                image("1.png", BOX, subset="train"), image("1.png", BOX, subset="Validation")
            ),
            "images/train/1.png": picture(1),
            "images/Validation/1.png": picture(2),
        }
    )
    assert {item.path: item.split for item in intake.items} == {
        "images/train/1.png": "train",
        "images/Validation/1.png": "val",
    }


@pytest.mark.parametrize(
    ("shape", "corners"),
    [
        ('<polygon label="m" points="10,20;40.5,20;40.5,60"/>', (10, 20, 40.5, 60)),
        ('<mask label="m" rle="3,4" left="10" top="20" width="30" height="40"/>', (10, 20, 40, 60)),
        # a quarter turn about its middle (25, 40)
        (
            '<box label="m" xtl="15" ytl="20" xbr="35" ybr="60" rotation="90"/>',
            (5, 30, 45, 50),
        ),
    ],
)
def test_other_shapes_give_the_box_around_them(shape: str, corners: tuple[float, ...]) -> None:
    intake = taken({"annotations.xml": cvat(image("a.png", shape)), "images/a.png": picture(1)})
    assert boxes_of(intake) == {"images/a.png": [("m", *corners)]}


def test_one_bad_shape_costs_itself() -> None:
    shapes = (
        f'{BOX}<points label="m" points="1,2"/><box label="m" xtl="a" ytl="2" xbr="3" ybr="4"/>'
        '<polygon label="m" points="1"/><tag label="crowded"/>'
    )
    intake = taken({"annotations.xml": cvat(image("a.png", shapes)), "images/a.png": picture(1)})
    assert len(boxes_of(intake)["images/a.png"]) == 1
    assert {tally.reason: tally.boxes for tally in intake.report.tallies()} == {
        Reason.NO_BOX: 2,
        Reason.NOT_NUMBERS: 1,
    }


def test_sizes_are_compared() -> None:
    intake = taken(
        {"annotations.xml": cvat(image("a.png", BOX, (192, 192))), "images/a.png": picture(1)}
    )
    assert boxes_of(intake) == {"images/a.png": [("with_mask", 5.25, 10, 20, 30.12)]}


def test_cvat_for_video_is_refused_by_name() -> None:
    track = '<track id="0" label="m"><box frame="0" xtl="1" ytl="2" xbr="3" ybr="4"/></track>'
    with pytest.raises(ArchiveRejectedError, match=r"CVAT for video, which is not read"):
        taken({"annotations.xml": cvat(track), "images/a.png": picture(1)})
