"""Data sets on disk become labeled bytes, and no photo lands on both sides of a split."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from services.worker.datasets.labeled import (
    LabeledImages,
    join,
    load_class_folders,
    load_voc_faces,
    read_voc,
)

CLASSES = ("with_mask", "without_mask")
COLORS = {"with_mask": (0, 0, 255), "without_mask": (255, 200, 0)}

VOC = """<annotation><filename>{name}</filename>{objects}</annotation>"""
OBJECT = (
    "<object><name>{label}</name><bndbox><xmin>{0}</xmin><ymin>{1}</ymin>"
    "<xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"
)


def class_folders(root: Path) -> Path:
    for name, color in COLORS.items():
        (root / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (40 + i, 50), color).save(root / name / f"{i}.png")
    return root


def voc(root: Path, photos: list[list[tuple[str, tuple[int, int, int, int]]]]) -> Path:
    """Write gray photos with a filled box of its class's color for each labeled face."""
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    for number, faces in enumerate(photos):
        image = np.full((100, 150, 3), 127, dtype=np.uint8)
        for label, (x0, y0, x1, y1) in faces:
            image[y0:y1, x0:x1] = COLORS.get(label, (0, 0, 0))
        Image.fromarray(image).save(root / "images" / f"{number:04}.jpg", quality=95)
        objects = "".join(OBJECT.format(*box, label=label) for label, box in faces)
        text = VOC.format(name=f"{number:04}.jpg", objects=objects)
        (root / "annotations" / f"{number:04}.xml").write_text(text)
    return root


def test_class_folders_are_stretched_and_labeled_in_the_order_asked(tmp_path: Path) -> None:
    found = load_class_folders(class_folders(tmp_path / "train"), CLASSES[::-1], size=32)
    assert found.images.shape == (6, 3, 32, 32)
    assert found.images.dtype == torch.uint8
    assert found.counts == {"without_mask": 3, "with_mask": 3}
    assert found.images[0, :, 16, 16].tolist() == [255, 200, 0]
    assert len(set(found.groups)) == 6


def test_voc_faces_are_cut_with_their_margin(tmp_path: Path) -> None:
    photos = [
        [("with_mask", (20, 20, 60, 60)), ("mask_weared_incorrect", (70, 70, 99, 99))],
        [("without_mask", (10, 10, 40, 40)), ("with_mask", (60, 60, 68, 68))],
    ]
    root = voc(tmp_path / "train", photos)
    found = load_voc_faces(root, CLASSES, size=40, margin=0.5, smallest=10)
    # The third class was not asked for; the last box is under 10 px.
    assert found.labels.tolist() == [0, 1]
    assert found.groups == ("train/0000", "train/0001")
    # A margin of half a side on each side puts the face into the middle half.
    middle, border = found.images[0, :, 20, 20].int(), found.images[0, :, 4, 4].int()
    assert (middle - torch.tensor([0, 0, 255])).abs().max() < 20
    assert (border - 127).abs().max() < 20


def test_read_voc_gives_names_and_corners(tmp_path: Path) -> None:
    root = voc(tmp_path, [[("with_mask", (1, 2, 30, 40))]])
    assert read_voc(root / "annotations" / "0000.xml") == [("with_mask", (1.0, 2.0, 30.0, 40.0))]


def test_read_voc_refuses_an_object_without_a_box(tmp_path: Path) -> None:
    path = tmp_path / "bad.xml"
    path.write_text("<annotation><object><name>x</name></object></annotation>")
    with pytest.raises(ValueError, match="without a box"):
        read_voc(path)


def numbered(groups: list[str]) -> LabeledImages:
    images = torch.arange(len(groups), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    labels = torch.arange(len(groups)) % 2
    return LabeledImages(images.contiguous(), labels, CLASSES, tuple(groups))


@pytest.mark.parametrize("seed", range(5))
def test_a_split_keeps_the_faces_of_a_photo_together(seed: int) -> None:
    data = numbered([f"photo{i // 4}" for i in range(80)])
    inside, outside = data.split(0.25, seed=seed)
    assert len(outside) == 20
    assert not set(inside.groups) & set(outside.groups)
    values = sorted([*inside.images[:, 0, 0, 0].tolist(), *outside.images[:, 0, 0, 0].tolist()])
    assert values == list(range(80))
    for side in (inside, outside):
        numbers = side.images[:, 0, 0, 0]
        assert side.groups == tuple(f"photo{int(n) // 4}" for n in numbers)
        assert torch.equal(side.labels, numbers.long() % 2)


def test_a_split_follows_its_seed_alone() -> None:
    data = numbered([f"photo{i}" for i in range(40)])
    first, again, other = (data.split(0.5, seed=seed)[1].groups for seed in (1, 1, 2))
    assert first == again != other


def test_the_fingerprint_tells_pixels_and_labels_apart() -> None:
    data = numbered(["a", "b", "c"])
    other_pixels = LabeledImages(data.images + 1, data.labels, CLASSES, data.groups)
    other_labels = LabeledImages(data.images, 1 - data.labels, CLASSES, data.groups)
    assert len({d.fingerprint for d in (data, other_pixels, other_labels)}) == 3
    assert data.fingerprint == numbered(["x", "y", "z"]).fingerprint


def test_only_sets_of_the_same_classes_join() -> None:
    data = numbered(["a", "b"])
    assert len(join(data, data, data)) == 6
    with pytest.raises(ValueError, match="same classes"):
        join(data, LabeledImages(data.images, data.labels, CLASSES[::-1], data.groups))
