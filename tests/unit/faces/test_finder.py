"""The search over several scales, with a network that is known to answer by color."""

import numpy as np
import pytest
import torch
from torch import Tensor

from services.worker.faces.finder import find_faces, find_in_all
from services.worker.faces.network import STRIDE, FaceNetwork, centers

SIDE = 20.0


class RedSquares(FaceNetwork):
    """Finds a face of 20 px wherever a cell's surroundings of 20 px are red."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        red = (images[:, :1] - images[:, 1:2]).clamp(min=0)
        filled = torch.nn.functional.avg_pool2d(red, int(SIDE) + 1, 1, int(SIDE) // 2)
        heat = filled[:, 0, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
        # Among equals the cell nearest to the middle wins, as a trained network's would.
        rows, columns = centers(heat.shape[1], heat.shape[2], images.device)
        half = SIDE / 2
        box = torch.stack(
            torch.broadcast_tensors(columns - half, rows - half, columns + half, rows + half)
        )
        return (heat * 20 - 10), box.expand(len(images), -1, -1, -1)


def photo(height: int, width: int, *squares: tuple[int, int, int]) -> np.ndarray:
    image = np.full((height, width, 3), 90, dtype=np.uint8)
    for x, y, side in squares:
        image[y : y + side, x : x + side] = (255, 0, 0)
    return image


@pytest.mark.parametrize("side", [20, 60, 180])
def test_a_face_is_found_at_any_size_and_in_pixels_of_the_photo(side: int) -> None:
    image = photo(400, 600, (130, 90, side))
    found = find_faces(RedSquares(), image, threshold=0.9, longest_side=600)
    wanted = np.array([130, 90, 130 + side, 90 + side])
    assert np.abs(found.boxes - wanted).max(1).min() <= 0.15 * side
    assert (np.diff(found.scores) <= 0).all()


def test_a_large_photo_is_searched_on_a_reduced_copy() -> None:
    image = photo(800, 1600, (400, 300, 80))
    found = find_faces(RedSquares(), image, threshold=0.9, longest_side=400)
    assert np.abs(found.boxes[0] - np.array([400, 300, 480, 380])).max() <= 20


def test_boxes_end_at_the_edges() -> None:
    found = find_faces(RedSquares(), photo(64, 96, (0, 0, 24)), threshold=0.5, longest_side=96)
    assert len(found.boxes)
    assert found.boxes.min() >= 0
    assert (found.boxes[:, 2:] <= [96, 64]).all()


def test_several_photos_share_passes_and_each_keeps_its_own_faces() -> None:
    sizes: list[tuple[int, int]] = []

    class Noted(RedSquares):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            sizes.append((len(images), images.shape[2]))
            return super().forward(images)

    photos = [
        photo(400, 600, (130, 90, 60)),
        photo(390, 595, (300, 200, 180), (20, 30, 60)),  # as many cells, but fewer pixels
        photo(100, 80, (20, 30, 24)),
        photo(400, 600),
    ]
    together = find_in_all(Noted(), photos, threshold=0.9, longest_side=600)
    for image, ours in zip(photos, together, strict=True):
        alone = find_faces(RedSquares(), image, threshold=0.9, longest_side=600)
        np.testing.assert_allclose(ours.boxes, alone.boxes, atol=1e-3)
        np.testing.assert_allclose(ours.scores, alone.scores, atol=1e-5)
    assert [bool(len(find.boxes)) for find in together] == [True, True, True, False]
    # Copies of 600 px are searched one after the other, those of 200 px and 67 px at once.
    assert [count for count, height in sizes if height == 400] == [1, 1, 1]
    assert max(count for count, height in sizes if height < 200) == 3


def test_nothing_red_is_no_face() -> None:
    found = find_faces(RedSquares(), photo(100, 100), threshold=0.5)
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == (0,)


@pytest.mark.parametrize("sides", [(16, 16), (48, 80)])
def test_the_network_answers_for_every_cell(sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, *sides)
    heat, boxes = FaceNetwork().eval()(images)
    assert heat.shape == (2, sides[0] // 4, sides[1] // 4)
    assert boxes.shape == (2, 4, sides[0] // 4, sides[1] // 4)
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    rows, columns = centers(sides[0] // 4, sides[1] // 4, torch.device("cpu"))
    assert ((boxes[:, 0] < columns) & (columns < boxes[:, 2])).all()
    assert ((boxes[:, 1] < rows) & (rows < boxes[:, 3])).all()
