"""Layouts are recognized, or refused by their names."""

import json

import pytest

from services.worker.datasets.archives import ArchiveRejectedError
from services.worker.datasets.layouts.recognize import Wanted
from tests.archives import picture, taken

PHOTO = {"images/a.png": picture(1)}
VOC = (
    b"<annotation><object><name>m</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax>"
    b"<ymax>40</ymax></bndbox></object></annotation>"
)


def dumped(document: object) -> bytes:
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"train.tfrecord": b"x"}, "TFRecord"),
        ({"data/train-00000.parquet": b"x"}, "Parquet"),
        ({"train/_annotations.csv": b"filename,width,height,class,xmin,ymin,xmax,ymax\n"}, "CSV"),
        ({"train/_classes.csv": b"filename, with_mask, without_mask\n"}, "CSV"),
        (
            {"project-1.csv": b"annotation_id,annotator,created_at,id,image,label\n"},
            "Label Studio CSV",
        ),
        ({"project-1.tsv": b"annotation_id\tannotator\tid\timage\n"}, "Label Studio CSV"),
        ({"wider_face_split/wider_face_train_bbx_gt.txt": b"x"}, "WIDER FACE"),
        ({"training/label_2/a.txt": b"Car 0 0 0"}, "KITTI"),
        ({"SegmentationClass/a.png": picture(2)}, "segmentation masks"),
        ({"a.json": dumped({"shapes": [], "imagePath": "a.png", "imageData": None})}, "LabelMe"),
        ({"via_region_data.json": dumped({"a.png1": {"regions": []}})}, "VGG Image Annotator"),
        ({"annotations/x.json": dumped({"items": [], "categories": {"label": {}}})}, "Datumaro"),
        ({"ann/a.png.json": dumped({"objects": [], "size": {}})}, "Supervisely"),
        (
            {"project-1.json": dumped([{"id": 1, "data": {"image": "x"}, "annotations": []}])},
            "Label Studio JSON,",
        ),
        (
            {"project-1.json": dumped([{"image": "x", "id": 1, "annotation_id": 2, "label": []}])},
            "Label Studio JSON-MIN",
        ),
        ({"_annotations.createml.json": dumped([{"image": "a", "annotations": []}])}, "CreateML"),
        (
            {
                "captions.json": dumped(
                    {"images": [], "annotations": [{"caption": "x"}], "categories": []}
                )
            },
            "COCO without boxes",
        ),
    ],
)
def test_layouts_that_are_not_read_are_refused_by_name(files: dict[str, bytes], says: str) -> None:
    with pytest.raises(ArchiveRejectedError, match=says) as caught:
        taken({**PHOTO, **files})
    assert "which is not read" in str(caught.value)


@pytest.mark.parametrize(
    "paths",
    [
        ("images/a.png", "images/b.png"),
        ("train/images/a.png", "valid/images/b.png"),
        ("images/train/a.png", "images/val/b.png"),
        ("JPEGImages/a.png", "JPEGImages/b.png"),
        ("my set/images/a.png", "my set/images/b.png"),
        ("train/a.png", "test/b.png"),
    ],
)
def test_images_is_never_a_class(paths: tuple[str, str]) -> None:
    with pytest.raises(ArchiveRejectedError, match=r"no classes|no class folder"):
        taken({path: picture(number) for number, path in enumerate(paths)})


def test_a_plain_folder_above_classes_is_none() -> None:
    files = {
        "train/images/with_mask/1.png": picture(1),
        "train/images/without_mask/2.png": picture(2),
        "val/images/with_mask/3.png": picture(3),
    }
    assert [(i.split, i.label) for i in taken(files).items] == [
        ("train", "with_mask"),
        ("train", "without_mask"),
        ("val", "with_mask"),
    ]


def test_a_class_that_is_asked_for_may_have_any_name() -> None:
    assert taken({"images/a.png": picture(1)}, layout="classes").classes == ("images",)


def test_two_layouts_at_once_need_a_word() -> None:
    files = {
        **PHOTO,
        "annotations/a.xml": VOC,
        "labels/a.txt": b"0 .5 .5 .5 .5",
        "classes.txt": b"with_mask",
    }
    with pytest.raises(ArchiveRejectedError, match=r"Pascal VOC and YOLO: name one in `layout`"):
        taken(files)
    asked: tuple[tuple[Wanted, str], ...] = (("voc", "m"), ("yolo", "with_mask"))
    for layout, label in asked:
        assert taken(files, layout=layout).classes == (label,)


def test_boxes_that_are_asked_for_and_not_there_are_refused() -> None:
    with pytest.raises(ArchiveRejectedError, match="no boxes in a layout that is read"):
        taken({"a/1.png": picture(1)}, layout="boxes")


def test_notes_and_tables_beside_class_folders_are_no_layout() -> None:
    intake = taken(
        {
            "with_mask/1.png": picture(1),
            "with_mask/1.txt": b"taken in May, 3 people",
            "without_mask/2.png": picture(2),
            "without_mask/2.xmp": b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>",
            "without_mask/2.xml": b"<note>hello</note>",
            "info.json": b'{"author": "me"}',
            "sizes.csv": b"name,size\n1.png,5\n",
        }
    )
    assert (intake.format, intake.classes) == ("class folders", ("with_mask", "without_mask"))
    assert len(intake.left_out) == 5
