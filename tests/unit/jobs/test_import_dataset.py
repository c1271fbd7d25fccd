"""``import-dataset`` from an upload to a registered data set."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from services.worker.datasets.packs import PackedDataset
from services.worker.jobs import import_dataset
from shared.problems import Problem
from shared.specs.import_dataset import ImportDatasetSpec

Make = Callable[..., Any]


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for path, data in files.items():
            zipped.writestr(path, data)
    return buffer.getvalue()


def noise(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    told = PngInfo()
    told.add_text("Comment", "from the camera")
    Image.fromarray(pixels).resize((40, 40)).save(buffer, "PNG", pnginfo=told)
    return buffer.getvalue()


def film(path: Path) -> bytes:
    """Return three seconds of noise, ten frames a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    random = np.random.default_rng(0)
    for _ in range(30):
        writer.write(random.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    writer.release()
    return path.read_bytes()


def test_photos_of_phones_are_read_in_an_archive_too(context_of: Make) -> None:
    pillow_heif.register_heif_opener()
    files = {}
    for number in range(4):
        buffer = io.BytesIO()
        with Image.open(io.BytesIO(noise(number))) as image:
            image.save(buffer, "AVIF" if number % 2 else "HEIF")
        files[f"{'ab'[number // 2]}/{number}.heic"] = buffer.getvalue()
    context = context_of()
    context.uploaded = archive(files)

    result = import_dataset.run(context, ImportDatasetSpec(name="phones"))

    assert (result.images, result.classes) == (4, ("a", "b"))


def test_an_archive_becomes_a_data_set(context_of: Make) -> None:
    context = context_of()
    files = {f"{'ab'[n % 4 > 0]}/{n}.png": noise(n) for n in range(40)}
    context.uploaded = archive({**files, "a/notes.txt": b"hello"})

    result = import_dataset.run(context, ImportDatasetSpec(name="mine"))

    assert b"from the camera" in files["a/0.png"]
    assert b"from the camera" not in context.packs[result.dataset]
    assert result.images == 40
    assert result.classes == ("a", "b")
    assert result.balance == pytest.approx(10 / 30)
    assert result.left_out_total == 1
    assert result.left_out[0].path == "a/notes.txt"
    assert any("left_out" in warning for warning in result.warnings)
    pack = PackedDataset(context.packs[result.dataset])
    assert pack.card.name == "mine"
    assert pack.card.counts() == result.counts
    assert len(pack.labeled(size=8)) == 40
    sheet = Image.open(io.BytesIO(context.artifacts["contact-sheet.jpg"]))
    assert result.main_artifact == "contact-sheet.jpg"
    assert sheet.width > sheet.height
    assert np.asarray(sheet).std() > 20


def test_a_video_becomes_frames_of_one_label_and_one_group(
    context_of: Make, tmp_path: Path
) -> None:
    context = context_of()
    context.uploaded = film(tmp_path / "film.avi")

    wanted = ImportDatasetSpec(name="me", label="Ada", frames_per_second=5, frames=12)
    result = import_dataset.run(context, wanted)

    assert (result.images, result.classes, result.counts) == (12, ("Ada",), {"train": {"Ada": 12}})
    items = PackedDataset(context.packs[result.dataset]).card.items
    assert len({item.group for item in items}) == 1
    assert {(item.width, item.height) for item in items} == {(64, 48)}


def test_a_video_without_a_label_is_a_clear_problem(context_of: Make, tmp_path: Path) -> None:
    context = context_of()
    context.uploaded = film(tmp_path / "film.avi")
    with pytest.raises(Problem, match="needs a `label`"):
        import_dataset.run(context, ImportDatasetSpec(name="me"))
    assert context.packs == {}


def test_a_single_class_is_taken_in_with_a_warning(context_of: Make) -> None:
    context = context_of()
    context.uploaded = archive({"a/1.png": noise(1)})

    result = import_dataset.run(context, ImportDatasetSpec(name="mine"))

    assert any("one class only" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"no archive", "neither a ZIP nor a TAR"),
        (archive({"../a/1.png": noise(1)}), "leaves the archive"),
        (archive({"a/1.txt": b"x"}), "can be used"),
    ],
)
def test_a_bad_upload_is_a_clear_problem(context_of: Make, data: bytes, says: str) -> None:
    context = context_of()
    context.uploaded = data

    with pytest.raises(Problem, match=says) as caught:
        import_dataset.run(context, ImportDatasetSpec(name="mine"))
    assert caught.value.slug == "invalid-archive"
    assert context.packs == {}
