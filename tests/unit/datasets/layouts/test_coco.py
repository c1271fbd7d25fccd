"""COCO detection as CVAT, Roboflow, Label Studio and COCO itself lay it out."""

import json
from typing import Any

import pytest

from services.worker.datasets.archives import ArchiveRejectedError
from services.worker.datasets.report import Change, Reason
from tests.archives import boxes_of, picture, taken

CATEGORIES = [
    {"id": 1, "name": "with_mask", "supercategory": ""},
    {"id": 2, "name": "without_mask", "supercategory": ""},
]


def coco(
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    categories: list[dict[str, Any]] | None = None,
) -> bytes:
    document = {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"contributor": "", "year": ""},
        "categories": CATEGORIES if categories is None else categories,
        "images": images,
        "annotations": [
            {"id": n, "segmentation": [], "area": 1.0, "iscrowd": 0, **entry}
            for n, entry in enumerate(annotations)
        ],
    }
    return json.dumps(document).encode()


def image(number: int, name: str, **fields: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name, "width": 96, "height": 96, **fields}


def box(number: int, category: int = 1, **fields: Any) -> dict[str, Any]:
    return {"image_id": number, "category_id": category, "bbox": [10, 20, 30, 40], **fields}


CORNERS = (10, 20, 40, 60)


def test_cvats_export() -> None:
    intake = taken(
        {
            "annotations/instances_default.json": coco(
                [image(1, "a.png"), image(2, "door/b.png")], [box(1), box(2, 2), box(2)]
            ),
            "images/a.png": picture(1),
            "images/door/b.png": picture(2),
        }
    )
    assert (intake.layout, intake.format) == ("boxes", "COCO")
    assert boxes_of(intake) == {
        "images/a.png": [("with_mask", *CORNERS)],
        "images/door/b.png": [("without_mask", *CORNERS), ("with_mask", *CORNERS)],
    }
    assert [item.source for item in intake.items] == ["", "door"]
    assert intake.left_out == []


def test_cvats_subsets_are_splits() -> None:
    files = {}
    for number, subset in enumerate(("train", "val")):
        document = coco([image(1, f"{subset}/1.png")], [box(1)])
        files[f"annotations/instances_{subset}.json"] = document
        files[f"images/{subset}/1.png"] = picture(number)
    assert [item.split for item in taken(files).items] == ["train", "val"]


def test_roboflows_export() -> None:
    """A document a split beside its photos; category 0 groups the others and has no boxes."""
    categories = [
        {"id": 0, "name": "masks", "supercategory": "none"},
        {"id": 1, "name": "with_mask", "supercategory": "masks"},
    ]
    files = {"README.roboflow.txt": b"v1", "README.dataset.txt": b"masks"}
    for number, split in enumerate(("train", "valid", "test")):
        name = "1_jpg.rf.0123.jpg"
        files[f"{split}/_annotations.coco.json"] = coco([image(0, name)], [box(0)], categories)
        files[f"{split}/{name}"] = picture(number)
    intake = taken(files)
    assert [item.split for item in intake.items] == ["train", "val", "test"]
    assert intake.classes == ("with_mask",)
    assert intake.left_out == []


@pytest.mark.parametrize(
    "stated",
    [
        "images/0a1b-me.png",
        "images\\0a1b-me.png",
        "../../label-studio/data/media/upload/3/0a1b-me.png",
        "C:\\Users\\me\\media\\upload\\3\\0a1b-me.png",
        "/data/upload/3/0a1b-me.png",
        "http://localhost:8080/data/upload/3/0a1b-me.png?sig=1",
    ],
)
def test_label_studios_export(stated: str) -> None:
    categories = [{"id": 0, "name": "with_mask"}, {"id": 1, "name": "without_mask"}]
    intake = taken(
        {
            "result.json": coco([image(0, stated)], [box(0, 1, ignore=0)], categories),
            "images/0a1b-me.png": picture(1),
        }
    )
    assert boxes_of(intake) == {"images/0a1b-me.png": [("without_mask", *CORNERS)]}


def test_cocos_own_layout() -> None:
    """Of several documents those of the instances count; years belong to the splits' names."""
    captions = coco([image(1, "1.png")], [])
    captions = captions.replace(b'"annotations": []', b'"annotations": [{"caption": "a man"}]')
    intake = taken(
        {
            "annotations/captions_train2017.json": captions,
            "annotations/person_keypoints_train2017.json": coco([image(1, "1.png")], [box(1)]),
            "annotations/instances_train2017.json": coco([image(1, "1.png")], [box(1, 2)]),
            "train2017/1.png": picture(1),
        }
    )
    assert boxes_of(intake) == {"train2017/1.png": [("without_mask", *CORNERS)]}
    assert intake.items[0].split == "train"
    assert intake.left_out == []


def test_an_outline_gives_the_box_that_is_missing() -> None:
    outline = {"segmentation": [[10, 20, 40, 20, 40, 60], [12, 15, 13, 16, 12, 17]]}
    entry = {"image_id": 1, "category_id": 1, **outline}
    intake = taken({"a.json": coco([image(1, "a.png")], [entry]), "a.png": picture(1)})
    assert boxes_of(intake) == {"a.png": [("with_mask", 10, 15, 40, 60)]}


def test_ids_may_be_strings_on_one_side() -> None:
    intake = taken(
        {
            "a.json": coco([image(1, "a.png", id="1")], [box(1, category_id="2")]),
            "a.png": picture(1),
        }
    )
    assert boxes_of(intake) == {"a.png": [("without_mask", *CORNERS)]}


def test_one_bad_object_costs_itself() -> None:
    intake = taken(
        {
            "a.json": coco(
                [image(1, "a.png"), image(2, "lost.png"), image(3, "bad.png")],
                [
                    box(1),
                    box(1, 9),
                    box(1, iscrowd=1, segmentation={"counts": "x", "size": [96, 96]}),
                    box(1, bbox=[1, 2, 3]),
                    box(1, bbox=["a", 2, 3, 4]),
                    box(1, bbox=[90, 90, 60, 60]),
                    box(1, bbox=[10, 10, 0, 5]),
                    box(1, bbox=None),
                    box(77),
                    box(3, bbox=[500, 500, 5, 5]),
                ],
            ),
            "a.png": picture(1),
            "bad.png": picture(2),
            "unlisted.png": picture(3),
        }
    )
    assert boxes_of(intake) == {"a.png": [("with_mask", *CORNERS)]}
    counts = {tally.reason: (tally.files, tally.boxes) for tally in intake.report.tallies()}
    assert counts == {
        Reason.UNKNOWN_CLASS: (0, 1),
        Reason.CROWD: (0, 1),
        Reason.NOT_NUMBERS: (0, 2),
        Reason.OUTSIDE: (0, 2),
        Reason.NO_AREA: (0, 1),
        Reason.NO_BOX: (0, 1),
        Reason.NO_PHOTO: (1, 1),
        Reason.NO_USABLE_BOX: (1, 0),
        Reason.NO_ANNOTATION: (1, 0),
    }
    assert ("unlisted.png", "no COCO file names it") in intake.left_out


def test_sizes_and_orientation_are_compared() -> None:
    turned = picture(1, size=(96, 48), orientation=6, file_format="JPEG")
    intake = taken(
        {
            "a.json": coco(
                [image(1, "a.jpg", width=96, height=48), image(2, "b.png", width=192, height=192)],
                [box(1, bbox=[0, 0, 20, 10]), box(2, bbox=[100, 100, 40, 40])],
            ),
            "a.jpg": turned,
            "b.png": picture(2),
        }
    )
    assert boxes_of(intake) == {
        "a.jpg": [("with_mask", 38, 0, 48, 20)],
        "b.png": [("with_mask", 50, 50, 70, 70)],
    }
    assert intake.report.changes == {Change.TURNED: 1, Change.SCALED: 1}


def test_photos_of_one_name_are_told_by_their_folders() -> None:
    intake = taken(
        {
            "annotations/all.json": coco(
                [image(1, "door/1.png"), image(2, "hall/1.png"), image(3, "1.png")],
                [box(1), box(2, 2), box(3)],
            ),
            "images/door/1.png": picture(1),
            "images/hall/1.png": picture(2),
        }
    )
    assert boxes_of(intake) == {
        "images/door/1.png": [("with_mask", *CORNERS)],
        "images/hall/1.png": [("without_mask", *CORNERS)],
    }
    assert intake.left_out == [
        ("annotations/all.json: 1.png", "several photos have the name that it gives")
    ]


def test_a_photo_of_another_split_is_not_taken_for_one_that_is_missing() -> None:
    intake = taken(
        {
            "train/_annotations.coco.json": coco(
                [image(1, "1.png"), image(2, "2.png")], [box(1), box(2)]
            ),
            "train/1.png": picture(1),
            "valid/2.png": picture(2),
        }
    )
    assert list(boxes_of(intake)) == ["train/1.png"]


def test_deep_json_is_refused() -> None:
    deep = b"[" * 100_000
    with pytest.raises(ArchiveRejectedError):
        taken({"a.json": deep, "images/a.png": picture(1)})


def test_names_that_no_database_holds_are_made_storable() -> None:
    categories = [{"id": 1, "name": "with\x00mask \ud800"}]
    intake = taken(
        {
            "a.json": coco(
                [image(1, "a.png"), image(2, "\ud800\n.png")], [box(1), box(2)], categories
            ),
            "a.png": picture(1),
        }
    )
    assert intake.classes == ("with\ufffdmask \ufffd",)
    assert intake.left_out == [("a.json: \ufffd\ufffd.png", "there is no photo for it")]
    intake.items[0].model_dump_json()
