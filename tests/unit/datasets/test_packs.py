"""Packs: data sets in one file."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.worker.datasets.packs import PackedDataset, write_pack
from shared.dataset_card import DatasetCard, DatasetItem, LabeledBox
from tests.fixtures.packs import pack_folder

ID = "ds_0123456789abcdef01234567"
VOC = """<annotation><object><name>with_mask</name><bndbox><xmin>10</xmin><ymin>20</ymin>
<xmax>40</xmax><ymax>60</ymax></bndbox></object><object><name>without_mask</name><bndbox>
<xmin>50</xmin><ymin>50</ymin><xmax>54</xmax><ymax>54</ymax></bndbox></object></annotation>"""


def picture(path: Path, color: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Class folders in three splits: reds are ``a``, greens ``b``."""
    root = tmp_path / "colors"
    for split, count in (("train", 4), ("val", 2), ("test", 1)):
        for number in range(count):
            picture(root / split / "a" / f"{number}.png", (200, number, 0))
            picture(root / split / "b" / f"{number}.png", (0, 200, number))
    return root


def test_class_folders_keep_their_splits_labels_and_pixels(folders: Path) -> None:
    pack = PackedDataset(pack_folder(folders, dataset_id=ID, layout="classes"))

    assert pack.card.classes == ("a", "b")
    assert pack.card.counts() == {
        "test": {"a": 1, "b": 1},
        "train": {"a": 4, "b": 4},
        "val": {"a": 2, "b": 2},
    }
    data = pack.labeled("val", size=8)
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert data.images.shape == (4, 3, 8, 8)
    assert data.images[1, :, 0, 0].tolist() == [200, 1, 0]
    assert len(set(data.groups)) == 4


def test_classes_choose_the_label_numbers(folders: Path) -> None:
    pack = PackedDataset(pack_folder(folders, dataset_id=ID, layout="classes"))

    assert pack.labeled("test", size=8, classes=("b",)).labels.tolist() == [0]
    assert pack.labeled("test", size=8, classes=("b", "a")).labels.tolist() == [1, 0]
    assert len(pack.labeled("test", size=8, classes=("c",))) == 0


def test_a_sample_follows_from_its_seed(folders: Path) -> None:
    pack = PackedDataset(pack_folder(folders, dataset_id=ID, layout="classes"))

    first = pack.items("all", sample=5, seed=1)
    assert len(first) == 5
    assert first == pack.items("all", sample=5, seed=1)
    assert first != pack.items("all", sample=5, seed=2)
    assert pack.items("train", sample=100) == pack.items("train")


def test_boxes_become_face_crops_and_tiny_ones_are_left_out(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    photo = np.zeros((100, 100, 3), np.uint8)
    photo[20:60, 10:40] = (255, 128, 0)
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    Image.fromarray(photo).save(root / "images" / "0.png")
    (root / "annotations" / "0.xml").write_text(VOC)

    pack = PackedDataset(pack_folder(root, dataset_id=ID, layout="boxes"))
    assert pack.card.counts() == {"train": {"with_mask": 1, "without_mask": 1}}
    data = pack.labeled(size=16)
    assert data.labels.tolist() == [0]
    center = data.images[0, :, 8, 8].tolist()
    assert center == [255, 128, 0]


def test_a_face_has_the_source_of_its_photo(folders: Path) -> None:
    names = {"door": "b", "hall": "a", "": "a"}
    stored, items = [], []
    for number, (source, label) in enumerate(names.items()):
        data = (folders / "train" / "a" / f"{number}.png").read_bytes()
        boxes = [LabeledBox(label=label, x0=0, y0=0, x1=side, y1=side) for side in (40, 20, 5)]
        item = DatasetItem(
            name=f"images/{number}",
            width=64,
            height=64,
            sha256=hashlib.sha256(data).hexdigest(),
            boxes=tuple(boxes),
            group=0,
            source=source,
            path=f"{source}/{number}.png",
        )
        items.append(item)
        stored.append((item.name, data))
    card = DatasetCard(id=ID, name="crowds", layout="boxes", classes=("a", "b"), items=tuple(items))
    pack = PackedDataset(write_pack(card, stored))

    assert pack.sources(classes=("a", "b")) == ("door",) * 2 + ("hall",) * 2 + ("crowds",) * 2
    assert pack.sources(classes=("a",)) == ("hall",) * 2 + ("crowds",) * 2
    assert len(pack.labeled(size=8, classes=("a",))) == 4
    one = pack.sources(classes=("a", "b"), sample=1, seed=3)
    chosen = pack.items(sample=1, seed=3)[0]
    assert one == (chosen.source or "crowds",) * 2


def test_before_there_were_paths_they_stood_where_the_source_does_now(folders: Path) -> None:
    pack = PackedDataset(pack_folder(folders, dataset_id=ID, layout="classes"))
    old = [item.model_copy(update={"source": item.path, "path": ""}) for item in pack.card.items]
    card = pack.card.model_copy(update={"items": tuple(old)})
    again = PackedDataset(write_pack(card, []))
    assert set(again.sources(classes=("a", "b"))) == {"colors"}


def test_the_same_folder_gives_the_same_bytes(folders: Path) -> None:
    first = pack_folder(folders, dataset_id=ID, layout="classes")
    assert first == pack_folder(folders, dataset_id=ID, layout="classes")


def test_other_bytes_are_refused(folders: Path) -> None:
    with pytest.raises(ValueError, match="not a pack"):
        PackedDataset(b"PK nothing")
    item = DatasetItem(name="images/0", width=1, height=1, sha256="0" * 64, label="a", group=0)
    card = DatasetCard(id=ID, name="x", layout="classes", classes=("a", "b"), items=(item,))
    pack = PackedDataset(write_pack(card, [("images/0", b"something")]))
    with pytest.raises(ValueError, match="not the image"):
        pack.read(item)
    assert hashlib.sha256(b"something").hexdigest() != item.sha256
    (folders / "empty").mkdir()
    with pytest.raises(ValueError, match="no images"):
        pack_folder(folders / "empty", dataset_id=ID, layout="classes")
