"""Examples and targets of the face finder keep boxes where the faces are, and it can learn."""

import numpy as np
import pytest
import torch

from research.train.face_examples import SIDE, FacePhoto, example, hold_out, targets
from research.train.face_finder import FinderConfig, loss_of, train_finder
from services.worker.faces.finder import find_faces
from services.worker.faces.mtcnn import as_drawn, as_found
from services.worker.faces.network import STRIDE


def photo(*boxes: tuple[int, int, int, int], shape: tuple[int, int] = (200, 300)) -> FacePhoto:
    """Gray, with a red rectangle for each face."""
    pixels = np.full((*shape, 3), 110, dtype=np.uint8)
    for x0, y0, x1, y1 in boxes:
        pixels[y0:y1, x0:x1] = (230, 20, 20)
    return FacePhoto("photo", pixels, np.array(boxes, dtype=np.float32).reshape(-1, 4))


@pytest.mark.parametrize("seed", range(12))
def test_an_examples_box_is_where_its_face_went(seed: int) -> None:
    image, boxes = example(photo((100, 60, 140, 110)), np.random.default_rng(seed), empty=0.0)
    assert image.shape == (3, SIDE, SIDE)
    x0, y0, x1, y1 = boxes[0]
    assert 7 <= max(x1 - x0, y1 - y0) <= 80
    # Only its near surroundings are gray: what lies outside of the photo has a random color.
    corner = np.clip([x0 - 4, y0 - 4], 0, SIDE).astype(int)
    around = image[:, corner[1] : int(y1) + 4, corner[0] : int(x1) + 4].int()
    rows, columns = np.nonzero((around[0] - around[1] > 40).numpy())
    found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    wanted = np.clip([x0, y0, x1, y1], 0, SIDE) - np.tile(corner, 2)
    assert np.abs(found - wanted).max() <= 2.5


def test_the_heat_of_a_face_is_one_at_its_middle_and_its_box_is_learned_there() -> None:
    heat, counts, learned = targets(np.array([[40, 60, 72, 100]], dtype=np.float32))
    row, column = divmod(int(heat.argmax()), heat.shape[1])
    assert (row, column) == (80 // STRIDE, 56 // STRIDE)
    assert heat.max() == 1
    assert learned[:, row, column].tolist() == [40, 60, 72, 100]
    assert counts.all()
    assert learned[0, 0, 0].isnan()


@pytest.mark.parametrize("box", [(40, 40, 43, 44), (0, 0, 150, 158)])
def test_faces_too_small_or_too_large_for_a_pass_do_not_count(box: tuple[int, ...]) -> None:
    heat, counts, learned = targets(np.array([box], dtype=np.float32))
    assert heat.max() == 0
    assert learned.isnan().all()
    assert not counts[(box[1] + box[3]) // 8, (box[0] + box[2]) // 8]
    assert counts.any()


def test_a_perfect_answer_costs_nothing() -> None:
    heat, counts, learned = (
        part[None] for part in targets(np.array([[40, 60, 72, 100]], dtype=np.float32))
    )
    sure = torch.where(heat == 1, 20.0, -20.0)
    focal, overlap = loss_of(sure, learned.nan_to_num(1.0), heat, counts, learned)
    assert float(focal) < 1e-3
    assert float(overlap) == pytest.approx(0, abs=1e-5)
    wrong, _ = loss_of(-sure, learned.nan_to_num(1.0), heat, counts, learned)
    assert float(wrong) > 5


def test_a_photo_without_faces_can_be_learned_from() -> None:
    heat, counts, learned = (part[None] for part in targets(np.empty((0, 4), dtype=np.float32)))
    logits = torch.zeros_like(heat, requires_grad=True)
    focal, overlap = loss_of(logits, torch.ones_like(learned), heat, counts, learned)
    (focal + overlap).backward()
    assert logits.grad is not None
    assert (logits.grad >= 0).all()


def test_drawn_and_found_boxes_turn_into_each_other() -> None:
    boxes = np.array([[10, 20, 50, 80], [0, 0, 8, 9]], dtype=np.float32)
    np.testing.assert_allclose(as_drawn(as_found(boxes)), boxes, atol=1e-4)


def test_held_out_photos_are_on_one_side_only() -> None:
    photos = [FacePhoto(str(i), np.zeros((1, 1, 3), np.uint8), np.empty((0, 4))) for i in range(20)]
    inside, outside = hold_out(photos, 0.25)
    assert len(outside) == 5
    assert {p.name for p in inside} | {p.name for p in outside} == {str(i) for i in range(20)}


@pytest.mark.slow
def test_learns_to_find_rectangles() -> None:
    random = np.random.default_rng(0)
    photos = []
    for _ in range(30):
        x, y = random.integers(0, 220), random.integers(0, 130)
        side = random.integers(20, 60)
        photos.append(photo((x, y, x + side, y + side)))
    network = train_finder(photos, [], FinderConfig(steps=60, batch_size=8, portraits=0.0))
    hits = 0
    for held in photos[:10]:
        found = find_faces(network, held.pixels, threshold=0.2)
        if len(found.boxes):
            hits += bool(np.abs(found.boxes[0] - held.boxes[0]).max() < 15)
    assert hits >= 8
