"""Crops keep to the geometry that training and serving share."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from services.worker.faces.crops import crop_face, crop_faces, resize, square_around

Corners = tuple[float, float, float, float]


def ramp(height: int, width: int) -> np.ndarray:
    """A picture whose red is the column and whose green is the row."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, np.zeros_like(rows)], -1).astype(np.uint8)


@pytest.mark.parametrize(
    ("box", "margin", "expected"),
    [
        ((10, 10, 30, 30), 0.0, (10, 10, 20)),
        ((10, 10, 30, 30), 0.5, (0, 0, 40)),
        ((10, 20, 20, 60), 0.0, (-5, 20, 40)),
        ((0, 0, 10, 10), 0.15, (-2, -2, 13)),
    ],
)
def test_the_square_has_the_longer_side_and_its_margins(
    box: Corners, margin: float, expected: tuple[int, int, int]
) -> None:
    assert square_around(box, margin) == expected


def test_an_inner_crop_of_the_models_size_is_the_pixels_themselves() -> None:
    image = ramp(80, 100)
    crop = crop_face(image, (20, 30, 52, 62), size=32, margin=0.0)
    expected = torch.from_numpy(image[30:62, 20:52].copy()).permute(2, 0, 1).float() / 255
    assert torch.equal(crop, expected)


def test_the_edge_repeats_outside_of_the_photo() -> None:
    image = ramp(40, 50)
    crop = crop_face(image, (-10, -10, 22, 22), size=32, margin=0.0)
    padded = np.pad(image, ((10, 0), (10, 0), (0, 0)), mode="edge")[:32, :32]
    assert torch.equal((crop * 255).round().byte().permute(1, 2, 0), torch.from_numpy(padded))


@pytest.mark.parametrize("box", [(-60, -60, -20, -20), (200, 200, 240, 240), (-50, 0, 150, 20)])
def test_a_square_far_outside_still_gives_a_crop(box: Corners) -> None:
    crop = crop_face(ramp(40, 50), box, size=24, margin=0.2)
    assert crop.shape == (3, 24, 24)
    assert 0 <= float(crop.min()) <= float(crop.max()) <= 1


def test_reduces_like_pillow_with_antialiasing() -> None:
    image = data.astronaut()[:400, :400]
    pillow = Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR)
    ours = (resize(image, 64) * 255).permute(1, 2, 0).numpy()
    assert np.abs(ours - np.asarray(pillow, dtype=float)).max() <= 1


def test_takes_read_only_and_reversed_pictures() -> None:
    image = data.astronaut()[::-1]
    image.flags.writeable = False
    assert crop_face(image, (10, 10, 60, 60), size=32, margin=0.1).shape == (3, 32, 32)


def test_many_crops_are_each_the_one_crop() -> None:
    image = data.astronaut()
    boxes: list[Corners] = [(170, 60, 280, 200), (0, 0, 50, 90), (480, 480, 530, 530)]
    crops = crop_faces(image, boxes, size=48, margin=0.15)
    assert crops.shape == (3, 3, 48, 48)
    for crop, box in zip(crops, boxes, strict=True):
        assert torch.equal(crop, crop_face(image, box, size=48, margin=0.15))
    assert crop_faces(image, [], size=48, margin=0.15).shape == (0, 3, 48, 48)


@pytest.mark.parametrize("margin", [0.0, 0.15, 2.0])
def test_a_huge_square_gives_what_padding_it_whole_gives(
    margin: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    across, down = np.linspace(0, 255, 1500), np.linspace(0, 255, 100)[:, None]
    photo = np.stack(np.broadcast_arrays(across, down, (across + down) / 2), -1).astype(np.uint8)
    box = (0.0, 0.0, 1500.0, 100.0)
    exact = crop_face(photo, box, size=64, margin=margin)

    monkeypatch.setattr("services.worker.faces.crops.MAX_PADDED_SIDE", 1024)
    small = crop_face(photo, box, size=64, margin=margin)

    assert small.shape == exact.shape
    # The edge that is repeated is the mean of the rows that a reduced one stands for: here of 7.
    assert (small - exact).abs().max() < 7 / 2 / 100


WHOLE_OF_A_WIDE_PHOTO = """
import numpy as np, torch
from services.worker.faces.crops import crop_face
from tests.memory import peak_kibibytes
photo = np.zeros((1000, 20000, 3), np.uint8)
photo[:, ::2] = 255
crop_face(photo[:8, :8], (0, 0, 8, 8), size=224, margin=2.0)  # what torch takes by itself
before = peak_kibibytes()
crop = crop_face(photo, (0, 0, 20000, 1000), size=224, margin=2.0)
assert crop.shape == (3, 224, 224)
print((peak_kibibytes() - before) // 1024)
"""


def test_a_box_of_a_whole_wide_photo_takes_no_more_than_the_photo() -> None:
    command = [sys.executable, "-c", WHOLE_OF_A_WIDE_PHOTO]
    taken = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    # The photo has 57 MiB, its square at this margin 28 GiB.
    assert int(taken) < 400
