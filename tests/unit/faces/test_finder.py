"""The search over scales, tiles and turns, with a network that is known to answer by color."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from services.worker.faces import copies
from services.worker.faces.copies import OVERLAP, TILE, smallest_face, tiles_of
from services.worker.faces.finder import TURNED, UPRIGHT, find_faces, find_in_all, surest, voted
from services.worker.faces.network import STRIDE, FaceNetwork, centers

SIDE = 20.0


class RedSquares(FaceNetwork):
    """Finds a face of 20 px wherever 20 px around a cell are red, and 60 px around it are not."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        red = (images[:, :1] - images[:, 1:2]).clamp(min=0)
        cells = functional.avg_pool2d(red, STRIDE)
        near, far = (functional.avg_pool2d(cells, side, 1, side // 2) for side in (5, 15))
        heat = (near - (2 * far - 0.5).clamp(min=0))[:, 0]
        # Among equals the cell nearest to the middle wins, as a trained network's would.
        rows, columns = centers(heat.shape[1], heat.shape[2], images.device)
        half = SIDE / 2
        box = torch.stack(
            torch.broadcast_tensors(columns - half, rows - half, columns + half, rows + half)
        )
        # The eyes lie in the upper corners, all else in the lower ones.
        points = torch.cat([box[:2], box[[2, 1]], box[2:], box[[0, 3]], box[2:]])
        boxes, points = (part.expand(len(images), -1, -1, -1) for part in (box, points))
        return (heat * 20 - 10), boxes, points


def photo(height: int, width: int, *squares: tuple[int, int, int]) -> np.ndarray:
    image = np.full((height, width, 3), 90, dtype=np.uint8)
    for x, y, side in squares:
        image[y : y + side, x : x + side] = (255, 0, 0)
    return image


@pytest.mark.parametrize("side", [20, 60, 180])
def test_a_face_is_found_at_any_size_and_in_pixels_of_the_photo(side: int) -> None:
    image = photo(400, 640, (130, 90, side))
    found = find_faces(RedSquares(), image, threshold=0.9)
    wanted = np.array([130, 90, 130 + side, 90 + side])
    assert np.abs(found.boxes - wanted).max(1).min() <= 0.15 * side
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("width", [1500, 4000])
def test_the_smallest_face_is_the_same_in_a_photo_of_any_size(width: int) -> None:
    image = photo(900, width, (width - 300, 300, 40))
    assert smallest_face(900, width) == 20
    found = find_faces(RedSquares(), image, threshold=0.9)
    assert np.abs(found.boxes[0] - [width - 300, 300, width - 260, 340]).max() <= 8
    finer = photo(900, width, (width - 300, 300, 24))
    assert len(find_faces(RedSquares(), finer, threshold=0.9, min_face=12).boxes) == 1


def test_tiles_cover_a_copy_once_and_stay_small() -> None:
    image = photo(3000, 5200)
    tiles = [tile for tile in tiles_of(image) if tile.stretch[0] == pytest.approx(2)]
    assert len(tiles) > 1
    owners = np.zeros((1500, 2600), dtype=int)
    for tile in tiles:
        height, width = tile.pixels.shape[:2]
        assert max(height, width) <= TILE
        x, y = tile.corner
        left, top, right, bottom = np.clip(tile.share, 0, [2600, 1500, 2600, 1500]).astype(int)
        owners[top:bottom, left:right] += 1
        # A face of the largest size of a pass lies whole in the tile in which its center counts.
        assert left - x >= OVERLAP // 2 or left == 0
        assert x + width - right >= OVERLAP // 2 or right == 2600
        assert top - y >= OVERLAP // 2 or top == 0
        assert y + height - bottom >= OVERLAP // 2 or bottom == 1500
    assert (owners == 1).all()


@pytest.mark.parametrize("shift", [-40, -12, -4, 0, 4, 16, 40])
def test_a_face_on_a_seam_of_tiles_is_found_once(
    shift: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "TILE", 400)
    image = photo(1300, 2000)
    tiles = [tile for tile in tiles_of(image) if tile.stretch[0] == 2]
    seams = sorted({2 * tile.share[0] for tile in tiles if tile.share[0] > 0})
    row = 2 * min(tile.share[1] for tile in tiles if tile.share[1] > 0)
    assert len(seams) > 1
    wanted = []
    for seam in seams:
        x, y = int(seam) + shift, int(row) + shift
        image[y - 20 : y + 20, x - 20 : x + 20] = (255, 0, 0)
        wanted.append([x - 20, y - 20, x + 20, y + 20])
    found = find_faces(RedSquares(), image, threshold=0.9)
    boxes = found.boxes[np.argsort(found.boxes[:, 0])]
    assert boxes.shape == (len(seams), 4)
    assert np.abs(boxes - wanted).max() <= 8


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_photo_is_searched_turned_and_boxes_are_of_the_photo_as_it_is(turn: int) -> None:
    image = photo(300, 640, (500, 60, 20))
    found = find_faces(RedSquares(), image, threshold=0.9, turns=(turn,))
    assert found.boxes.shape == (1, 4)
    assert np.abs(found.boxes[0] - [500, 60, 520, 80]).max() <= 5
    assert found.turns.tolist() == [turn]
    # Set upright, the face has its eyes above: a quarter turn puts them at the right or left.
    eyes = found.points[0, :2].mean(0) - found.boxes[0].reshape(2, 2).mean(0)
    where = {1: (1, 0), 2: (0, 1), 3: (-1, 0)}[turn]
    assert np.sign(np.round(eyes / 8)).tolist() == list(where)
    everywhere = find_faces(RedSquares(), image, threshold=0.9, turns=UPRIGHT + TURNED)
    assert len(everywhere.boxes) == 1


def test_boxes_end_at_the_edges() -> None:
    found = find_faces(RedSquares(), photo(64, 96, (0, 0, 24)), threshold=0.5)
    assert len(found.boxes)
    assert found.boxes.min() >= 0
    assert (found.boxes[:, 2:] <= [96, 64]).all()


def test_several_photos_share_passes_and_each_keeps_its_own_faces() -> None:
    sizes: list[tuple[int, int]] = []

    class Noted(RedSquares):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            sizes.append((len(images), images.shape[2]))
            return super().forward(images)

    photos = [
        photo(416, 640, (130, 90, 60)),
        photo(410, 635, (300, 200, 180), (20, 30, 60)),  # as many cells, but fewer pixels
        photo(100, 80, (20, 30, 24)),
        photo(416, 640),
    ]
    together = find_in_all(Noted(), photos, threshold=0.9)
    for image, ours in zip(photos, together, strict=True):
        alone = find_faces(RedSquares(), image, threshold=0.9)
        np.testing.assert_allclose(ours.boxes, alone.boxes, atol=1e-3)
        np.testing.assert_allclose(ours.scores, alone.scores, atol=1e-5)
    assert [bool(len(find.boxes)) for find in together] == [True, True, True, False]
    # Copies of 640 px are searched one after the other, those of 213 px and 71 px at once.
    assert [count for count, height in sizes if height == 416] == [1, 1, 1]
    assert max(count for count, height in sizes if height < 200) == 3


def test_nothing_red_is_no_face() -> None:
    found = find_faces(RedSquares(), photo(100, 100), threshold=0.5)
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == (0,)


def test_of_boxes_that_mean_one_face_the_surest_stays() -> None:
    boxes = torch.tensor(
        [
            [0.0, 0, 100, 100],
            [10, 10, 110, 110],  # the same face again
            [30, 30, 60, 60],  # a part of it
            [90, 90, 190, 190],  # somebody behind
            [40, 40, 50, 50],  # a part of the part
        ]
    )
    assert surest(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])).tolist() == [0, 3]
    assert surest(boxes, torch.tensor([0.7, 0.8, 0.9, 0.6, 0.5])).tolist() == [2, 3]
    assert surest(torch.empty(0, 4), torch.empty(0)).tolist() == []


@pytest.mark.parametrize("sides", [(16, 16), (48, 80)])
def test_the_network_answers_for_every_cell(sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, *sides)
    heat, boxes, points = FaceNetwork().eval()(images)
    assert points.shape == (2, 10, sides[0] // 4, sides[1] // 4)
    assert heat.shape == (2, sides[0] // 4, sides[1] // 4)
    assert boxes.shape == (2, 4, sides[0] // 4, sides[1] // 4)
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    rows, columns = centers(sides[0] // 4, sides[1] // 4, torch.device("cpu"))
    assert ((boxes[:, 0] < columns) & (columns < boxes[:, 2])).all()
    assert ((boxes[:, 1] < rows) & (rows < boxes[:, 3])).all()


def test_a_box_is_the_mean_of_what_copies_of_the_same_turn_found() -> None:
    boxes = np.array(
        [[0, 0, 40, 40], [4, 0, 44, 40], [4, 4, 40, 40], [60, 0, 80, 20]], dtype=np.float32
    )
    scores = np.array([0.6, 0.2, 0.9, 0.5], dtype=np.float32)
    turns = np.array([0, 0, 1, 0])
    face, apart = voted(boxes, scores, turns, np.array([0, 3]))
    assert face == pytest.approx([1, 0, 41, 40], abs=1e-4)  # (3 * first + second) / 4
    assert apart == pytest.approx([60, 0, 80, 20], abs=1e-4)
