"""Archives and videos become data sets."""

import io
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from services.worker.datasets.archives import ArchiveLimits, ArchiveRejectedError
from services.worker.datasets.importing import Intake, take_in
from shared.images import ImageLimits

VOC = """<annotation><object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>2</ymin>
<xmax>{x1}</xmax><ymax>20</ymax></bndbox></object></annotation>"""


def noise(seed: int, *, size: int = 32, file_format: str = "PNG") -> bytes:
    """Return a picture like no other."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((size, size), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, file_format)
    return buffer.getvalue()


def taken(files: dict[str, bytes], **options: Any) -> Intake:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return take_in(buffer, images=ImageLimits(), archive=ArchiveLimits(), **options)


def test_class_folders_below_a_common_folder_are_split_evenly() -> None:
    files = {f"my photos/{'ab'[n % 2]}/{n}.png": noise(n) for n in range(80)}
    intake = taken(files)

    assert (intake.layout, intake.classes, intake.leaks) == ("classes", ("a", "b"), 0)
    for label in "ab":
        splits = [item.split for item in intake.items if item.label == label]
        assert [splits.count(split) for split in ("train", "val", "test")] == [28, 6, 6]
    assert [i.split for i in taken(files).items] == [i.split for i in intake.items]
    assert [i.split for i in taken(files, seed=1).items] != [i.split for i in intake.items]


def test_people_are_the_classes_of_an_identity_layout() -> None:
    people = ("Ada", "Grace", "Hedy")
    intake = taken(
        {
            f"lfw/{name}/{n}.png": noise(3 * n + i)
            for i, name in enumerate(people)
            for n in range(5)
        },
        layout="identities",
    )
    assert (intake.layout, intake.classes) == ("identities", people)
    assert {(item.label, item.path.split("/")[-2]) for item in intake.items} == {
        (name, name) for name in people
    }


def test_given_splits_are_kept() -> None:
    intake = taken(
        {
            "train/a/1.png": noise(1),
            "Validation/a/2.png": noise(2),
            "test/b/3.png": noise(3),
        }
    )
    assert [(item.split, item.label) for item in intake.items] == [
        ("train", "a"),
        ("val", "a"),
        ("test", "b"),
    ]


def test_copies_are_left_out_and_near_duplicates_stay_together() -> None:
    files = {f"a/{n}.png": noise(n) for n in range(30)}
    files |= {f"a/{n}-again.png": noise(n) for n in range(3)}
    files |= {f"b/{n}-larger.png": noise(n, size=48) for n in range(20)}
    intake = taken(files)

    assert intake.duplicates == 3
    assert ("a/0-again.png", "it repeats another file") in intake.left_out
    sides: dict[int, set[str]] = {}
    for item in intake.items:
        sides.setdefault(item.group, set()).add(item.split)
    assert len(sides) == 30
    assert all(len(splits) == 1 for splits in sides.values())


def test_a_test_image_seen_in_training_is_a_leak_and_leaves_training() -> None:
    intake = taken(
        {
            "train/a/1.png": noise(1),
            "train/a/2.png": noise(2),
            "val/a/2.png": noise(2, size=40),
            "test/a/1.png": noise(1, size=40),
        }
    )
    assert intake.leaks == 2
    assert [item.path for item in intake.items] == ["val/a/2.png", "test/a/1.png"]


def test_what_is_no_picture_is_named_and_left_out() -> None:
    intake = taken(
        {
            "a/1.png": noise(1),
            "b/2.png": noise(2),
            "README.txt": b"hello",
            "a/notes.txt": b"hello",
            "a/cut.png": noise(3)[:60],
            "loose.png": noise(4),
        }
    )
    assert len(intake.items) == 2
    reasons = dict(intake.left_out)
    assert set(reasons) == {"README.txt", "a/notes.txt", "a/cut.png", "loose.png"}
    assert reasons["loose.png"] == "it lies in no class folder"
    assert reasons["a/notes.txt"] == "it is no picture"


def test_boxes_come_from_pascal_voc_files() -> None:
    intake = taken(
        {
            "set/images/1.png": noise(1),
            "set/images/2.png": noise(2),
            "set/images/3.png": noise(3),
            "set/images/4.png": noise(4),
            "set/annotations/1.xml": VOC.format(name="with_mask", x0=2, x1=20).encode(),
            "set/annotations/2.xml": VOC.format(name="without_mask", x0=2, x1=90).encode(),
            "set/annotations/3.xml": b"<annotation><object>",
            "set/annotations/5.xml": VOC.format(name="with_mask", x0=2, x1=20).encode(),
        }
    )
    assert intake.layout == "boxes"
    assert [item.path for item in intake.items] == ["images/1.png"]
    assert [(b.label, b.x0, b.x1) for b in intake.items[0].boxes] == [("with_mask", 2, 20)]
    reasons = dict(intake.left_out)
    assert "lies outside of the photo's 32 x 32" in reasons["annotations/2.xml"]
    assert "not well-formed" in reasons["annotations/3.xml"]
    assert reasons["images/4.png"] == "there is no XML file for it"
    assert reasons["annotations/5.xml"] == "there is no photo for it"


def test_photos_of_one_name_have_the_boxes_of_their_own_folder() -> None:
    """Cameras number their photos alike: no photo may get another's boxes."""
    boxed = {
        folder: VOC.format(name=name, x0=2, x1=20).encode()
        for folder, name in (("door", "with_mask"), ("hall", "without_mask"), ("lost", "other"))
    }
    intake = taken(
        {
            "train/door/images/1.png": noise(1),
            "train/door/annotations/1.xml": boxed["door"],
            "train/door/images/1.txt": b"a note",
            "train/hall/1.png": noise(2),
            "train/hall/1.xml": boxed["hall"],
            "train/yard/images/1.png": noise(3),
            "train/lost/annotations/1.xml": boxed["lost"],
            "test/images/door/1.png": noise(4),
            "test/annotations/door/1.xml": boxed["door"],
        }
    )
    assert [(item.path, item.source, item.boxes[0].label) for item in intake.items] == [
        ("train/door/images/1.png", "door", "with_mask"),
        ("train/hall/1.png", "hall", "without_mask"),
        ("test/images/door/1.png", "door", "with_mask"),
    ]
    assert dict(intake.left_out) == {
        "train/door/images/1.txt": "it is no picture",
        "train/yard/images/1.png": "there is no XML file for it",
        "train/lost/annotations/1.xml": "there is no photo for it",
    }


def test_a_folder_within_a_class_is_a_source() -> None:
    intake = taken(
        {
            "train/a/door/2026/1.png": noise(1),
            "train/a/hall/1.png": noise(2),
            "train/b/3.png": noise(3),
        }
    )
    assert [(item.label, item.source) for item in intake.items] == [
        ("a", "door"),
        ("a", "hall"),
        ("b", ""),
    ]


def test_entities_in_annotations_are_refused() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><annotation>&a;</annotation>'
    with pytest.raises(ArchiveRejectedError, match="well-formed"):
        taken({"images/1.png": noise(1), "annotations/1.xml": bomb})


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "holds no files"),
        ({"a/1.txt": b"x"}, "none of its 1 files can be used"),
        ({"1.png": noise(1)}, "lies in no class folder"),
    ],
)
def test_what_holds_nothing_is_refused(files: dict[str, bytes], says: str) -> None:
    with pytest.raises(ArchiveRejectedError, match=says):
        taken(files)


def test_cancel_stops_it() -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        taken({"a/1.png": noise(1)}, check=stop)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Three seconds of video, ten frames a second, each second of another gray."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    assert writer.isOpened()
    for number in range(30):
        writer.write(np.full((48, 64, 3), 60 * (number // 10) + 40, np.uint8))
    writer.release()
    return path


def test_a_video_is_sampled_into_frames(film: Path) -> None:
    with film.open("rb") as file:
        intake = take_in(file, label="with_mask", images=ImageLimits(), archive=ArchiveLimits())
    assert [item.label for item in intake.items] == ["with_mask"] * 3
    assert {item.group for item in intake.items} == {0}
    levels = [
        np.asarray(Image.open(io.BytesIO(intake.bytes_of(item)))).mean() for item in intake.items
    ]
    assert levels == pytest.approx([40, 100, 160], abs=4)


def test_a_video_has_bounds(film: Path) -> None:
    with film.open("rb") as file:
        options: dict[str, Any] = {"images": ImageLimits(), "archive": ArchiveLimits()}
        few = take_in(file, label="a", frames=5, frames_per_second=10, **options)
        assert len(few.items) == 5
        with pytest.raises(ArchiveRejectedError, match="needs a `label`"):
            take_in(file, **options)
        options["images"] = ImageLimits(max_pixels=1000)
        with pytest.raises(ArchiveRejectedError, match="64 x 48 pixels"):
            take_in(file, label="a", **options)


def test_a_film_is_canceled_between_the_frames_that_are_taken(film: Path) -> None:
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 10:
            raise InterruptedError

    options: dict[str, Any] = {"images": ImageLimits(), "archive": ArchiveLimits()}
    with film.open("rb") as file, pytest.raises(InterruptedError):
        take_in(file, label="a", frames_per_second=1e-6, check=check, **options)


def noisy_film(path: Path, *, flat: int) -> Path:
    """Write five frames of noise, but for one that is flat."""
    random = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for number in range(5):
        frame = random.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        writer.write(np.full_like(frame, 90) if number == flat else frame)
    writer.release()
    return path


def test_frames_that_are_too_large_are_left_out(tmp_path: Path) -> None:
    options: dict[str, Any] = {"label": "a", "frames_per_second": 10, "archive": ArchiveLimits()}
    with noisy_film(tmp_path / "film.avi", flat=2).open("rb") as file:
        intake = take_in(file, images=ImageLimits(max_bytes=2000), **options)
        assert [item.path for item in intake.items] == ["frame 2"]
        assert [path for path, _ in intake.left_out] == [f"frame {n}" for n in (0, 1, 3, 4)]
        assert "2000 bytes" in intake.left_out[0][1]
        with pytest.raises(ArchiveRejectedError, match=r"none can be used; .* 50 bytes"):
            take_in(file, images=ImageLimits(max_bytes=50), **options)


def test_the_frames_of_a_video_have_a_limit_together(tmp_path: Path) -> None:
    limits = ArchiveLimits(total_bytes=20_000)
    with noisy_film(tmp_path / "film.avi", flat=-1).open("rb") as file:
        options: dict[str, Any] = {"label": "a", "frames_per_second": 10, "images": ImageLimits()}
        assert len(take_in(file, frames=1, archive=limits, **options).items) == 1
        with pytest.raises(ArchiveRejectedError, match="more than 20000 bytes"):
            take_in(file, archive=limits, **options)


def test_what_changes_on_the_way_is_told_for_all_pictures() -> None:
    intake = taken({f"a/{n}.gif": noise(n, file_format="GIF") for n in range(3)})
    (note,) = intake.report.told()
    assert note.startswith("of 3 pictures: ")
