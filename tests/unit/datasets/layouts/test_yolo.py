"""YOLO as Ultralytics, darknet, CVAT, Roboflow and Label Studio lay it out."""

import json

import pytest

from services.worker.datasets.archives import ArchiveRejectedError
from services.worker.datasets.report import Change, Reason
from tests.archives import boxes_of, picture, taken

MIDDLE = b"0 0.5 0.5 0.25 0.5\n"
OTHER = b"1 0.5 0.5 0.25 0.5\n"
CORNERS = (36, 24, 60, 72)  # of 96 x 96 pixels
YAML = b"names: [with_mask, without_mask]\nnc: 2\n"


def splits(files: dict[str, bytes]) -> dict[str, str]:
    return {item.path: item.split for item in taken(files).items}


def test_roboflows_export() -> None:
    """A folder a split, each with images and labels; ``data.yaml`` names the classes."""
    files = {"README.dataset.txt": b"# masks\n", "README.roboflow.txt": b"v1\n"}
    files["data.yaml"] = (
        b"train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\n"
        b"names: ['with_mask', 'without_mask']\n\nroboflow:\n  workspace: x\n  version: 1\n"
    )
    for number, split in enumerate(("train", "valid", "test")):
        files[f"{split}/images/{number}_jpg.rf.ab12.jpg"] = picture(number)
        files[f"{split}/labels/{number}_jpg.rf.ab12.txt"] = OTHER
    intake = taken(files)
    assert (intake.layout, intake.format) == ("boxes", "YOLO")
    assert [item.split for item in intake.items] == ["train", "val", "test"]
    for boxes in boxes_of(intake).values():
        assert boxes == [("without_mask", *CORNERS)]
    assert intake.left_out == []


@pytest.mark.parametrize(
    "names",
    [
        "names:\n  0: with_mask\n  1: without_mask\n",
        "names:\n- with_mask\n- without_mask\n",
        "names: {1: without_mask, 0: with_mask}\n",
    ],
)
def test_ultralytics_layout(names: str) -> None:
    """``images/<split>`` beside ``labels/<split>``, below a folder of the data set's name."""
    intake = taken(
        {
            "masks/data.yaml": f"path: ../datasets/masks\ntrain: images/train\n{names}".encode(),
            "masks/images/train/a.png": picture(1),
            "masks/images/val/b.png": picture(2),
            "masks/labels/train/a.txt": MIDDLE + OTHER,
            "masks/labels/val/b.txt": OTHER,
        }
    )
    assert {i.path.rpartition("/")[2]: i.split for i in intake.items} == {
        "a.png": "train",
        "b.png": "val",
    }
    assert intake.classes == ("with_mask", "without_mask")
    assert intake.left_out == []


def test_folders_that_only_the_configuration_names() -> None:
    files = {
        "data.yaml": b"train: images/first\nval: [images/second]\n" + YAML,
        "images/first/a.png": picture(1),
        "images/second/b.png": picture(2),
        "labels/first/a.txt": MIDDLE,
        "labels/second/b.txt": MIDDLE,
    }
    assert splits(files) == {"images/first/a.png": "train", "images/second/b.png": "val"}


def test_cvats_darknet_export() -> None:
    """``obj.data``, ``obj.names``, lists of photos, and photos beside their text files."""
    files = {
        "obj.data": b"classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\n"
        b"names = data/obj.names\nbackup = backup/\n",
        "obj.names": b"with_mask\nwithout_mask\n",
        "train.txt": b"data/obj_train_data/a.png\n",
        "valid.txt": b"data/obj_valid_data/b.png\n",
        "obj_train_data/a.png": picture(1),
        "obj_train_data/a.txt": MIDDLE,
        "obj_valid_data/b.png": picture(2),
        "obj_valid_data/b.txt": OTHER,
    }
    intake = taken(files)
    assert boxes_of(intake) == {
        "obj_train_data/a.png": [("with_mask", *CORNERS)],
        "obj_valid_data/b.png": [("without_mask", *CORNERS)],
    }
    assert [item.split for item in intake.items] == ["train", "val"]
    assert {item.source for item in intake.items} == {""}
    assert intake.left_out == []


def test_lists_divide_photos_that_lie_together() -> None:
    files = {
        "masks.names": b"with_mask\n",
        "classes.txt": b"with_mask\n",
        "train.txt": b"./data/a.png\r\nC:\\masks\\data\\b.png\r\n",
        "test.txt": b"/home/me/data/c.png\n",
        **{f"data/{name}.png": picture(n) for n, name in enumerate("abc")},
        **{f"data/{name}.txt": MIDDLE for name in "abc"},
    }
    assert list(splits(files).values()) == ["train", "train", "test"]


def test_cvats_ultralytics_export() -> None:
    files = {
        "data.yaml": b"names:\n  0: with_mask\npath: .\ntrain: train.txt\n",
        "train.txt": b"data/images/train/a.png\n",
        "images/train/a.png": picture(1),
        "labels/train/a.txt": MIDDLE,
    }
    intake = taken(files)
    assert [item.split for item in intake.items] == ["train"]
    assert intake.left_out == []


def test_label_studios_export() -> None:
    """``classes.txt``, ``notes.json``, and photos with a random beginning of their names."""
    notes = {
        "categories": [{"id": 0, "name": "with_mask"}, {"id": 1, "name": "without_mask"}],
        "info": {"year": 2024, "version": "1.0", "contributor": "Label Studio"},
    }
    files = {
        "classes.txt": b"with_mask\nwithout_mask",
        "notes.json": json.dumps(notes).encode(),
        "images/0a1b2c3d-me.png": picture(1),
        "labels/0a1b2c3d-me.txt": OTHER,
    }
    intake = taken(files)
    assert boxes_of(intake) == {"images/0a1b2c3d-me.png": [("without_mask", *CORNERS)]}
    assert intake.left_out == []
    del files["classes.txt"]
    assert taken(files).classes == ("without_mask",)


def test_roboflows_darknet_export() -> None:
    files = {}
    for number, split in enumerate(("train", "valid")):
        files[f"{split}/_darknet.labels"] = b"with_mask\nwithout_mask"
        files[f"{split}/{number}.png"] = picture(number)
        files[f"{split}/{number}.txt"] = MIDDLE
    assert splits(files) == {"train/0.png": "train", "valid/1.png": "val"}


@pytest.mark.parametrize(
    ("line", "corners"),
    [
        ("0 0.25 0.25 0.75 0.25 0.5 0.5", (24, 24, 72, 48)),  # a polygon of three points
        ("0 .25 .25 .75 .25 .75 .5 .25 .5", (24, 24, 72, 48)),  # an oriented box: four
        ("0 0.5 0.5 0.25 0.5 0.93", CORNERS),  # with a confidence
        ("0\t0.5  0.5 2.5e-1 0.5", CORNERS),
        ("0 0.1 0.5 0.3 0.5", (0, 24, 24, 72)),  # over the edge: clipped
    ],
)
def test_lines(line: str, corners: tuple[float, ...]) -> None:
    intake = taken({"data.yaml": YAML, "images/a.png": picture(1), "labels/a.txt": line.encode()})
    assert boxes_of(intake) == {"images/a.png": [("with_mask", *corners)]}


def test_key_points_after_a_box_are_no_polygon() -> None:
    line = b"0 0.5 0.5 0.25 0.5 0.1 0.1 2 0.9 0.9 2"
    files = {
        "data.yaml": b"kpt_shape: [2, 3]\n" + YAML,
        "images/a.png": picture(1),
        "labels/a.txt": line,
    }
    assert boxes_of(taken(files)) == {"images/a.png": [("with_mask", *CORNERS)]}


def test_boxes_are_shares_of_the_upright_photo() -> None:
    """Ultralytics' loader turns photos before it reads boxes."""
    photo = picture(1, size=(96, 48), orientation=6, file_format="JPEG")
    files = {"data.yaml": YAML, "images/a.jpg": photo, "labels/a.txt": b"0 .5 .25 .5 .25"}
    assert boxes_of(taken(files)) == {"images/a.jpg": [("with_mask", 12, 12, 36, 36)]}


def test_one_bad_line_costs_itself() -> None:
    lines = MIDDLE + b"7 .5 .5 .1 .1\n0 .5 .5 0 .1\n0 234 120 50 60\nhello\n0 nan .5 .1 .1\n0 .5\n"
    intake = taken({"data.yaml": YAML, "images/a.png": picture(1), "labels/a.txt": lines})
    assert boxes_of(intake) == {"images/a.png": [("with_mask", *CORNERS)]}
    assert {tally.reason: tally.boxes for tally in intake.report.tallies()} == {
        Reason.NOT_NUMBERS: 3,
        Reason.UNKNOWN_CLASS: 1,
        Reason.NO_AREA: 1,
        Reason.OUTSIDE: 1,
    }
    assert intake.report.changes[Change.SCALED] == 0


def test_photos_without_boxes_and_boxes_without_photos() -> None:
    files = {
        "data.yaml": YAML,
        "images/a.png": picture(1),
        "images/empty.png": picture(2),
        "images/unlabeled.png": picture(3),
        "labels/a.txt": MIDDLE,
        "labels/empty.txt": b"",
        "labels/lost.txt": MIDDLE,
    }
    intake = taken(files)
    assert [item.path for item in intake.items] == ["images/a.png", "images/empty.png"]
    assert dict(intake.left_out) == {
        "labels/lost.txt": "there is no photo for it",
        "images/unlabeled.png": "there is no text file for it",
    }


def test_words_that_yaml_takes_for_truth_are_classes() -> None:
    files = {
        "data.yaml": b"names: [no, yes]\nnc: 2\n",
        "images/a.png": picture(1),
        "labels/a.txt": MIDDLE + OTHER,
    }
    assert taken(files).classes == ("no", "yes")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "does not say what its classes are called"),
        ({"data.yaml": b"names: &a [x, *a]\n"}, "aliases"),
        ({"notes.json": b"{"}, "does not say"),
        ({"notes.json": b'{"categories": [{"id": [1]}, {"id": null}]}'}, "does not say"),
        ({"data.yaml": b"names: {" + b"9" * 500 + b": a}"}, "does not say"),
        ({"data.yaml": b"names: " + b"[" * 500}, "nested too deep|not well-formed"),
        ({"data.yaml": b"names: {999999999: a}"}, "more than 20000 classes"),
        ({"data.yaml": b"names: [a]\n#" + b"x" * 2**20}, "more than 1048576 bytes"),
        ({"a/classes.txt": b"x\ny", "b/classes.txt": b"y\nx"}, "list different classes"),
    ],
)
def test_what_names_no_classes_is_refused(files: dict[str, bytes], says: str) -> None:
    with pytest.raises(ArchiveRejectedError, match=says):
        taken({**files, "images/a.png": picture(1), "labels/a.txt": MIDDLE})
