"""Examples and targets of the face finder keep boxes where the faces are, and it can learn."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from research.train.face_boxes import boxed
from research.train.face_examples import SIDE, composite, example
from research.train.face_finder import (
    FinderConfig,
    Pictures,
    Training,
    batch_of,
    loss_of,
    rate,
    train_finder,
)
from research.train.face_pictures import (
    NO_BOXES,
    FacePhoto,
    Template,
    faceless,
    hold_out,
    masked,
)
from research.train.face_start import narrowed
from research.train.face_targets import targets
from services.worker.faces.alignment import FRAME_POINTS
from services.worker.faces.finder import find_faces
from services.worker.faces.mtcnn import as_drawn, as_found
from services.worker.faces.network import STRIDE, FaceNetwork

NO_POINTS = np.empty((0, 5, 2), dtype=np.float32)
MIDDLES = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], dtype=np.float32)


def photo(*boxes: tuple[int, int, int, int], shape: tuple[int, int] = (200, 300)) -> FacePhoto:
    """Gray, with a red rectangle for each face."""
    pixels = np.full((*shape, 3), 110, dtype=np.uint8)
    for x0, y0, x1, y1 in boxes:
        pixels[y0:y1, x0:x1] = (230, 20, 20)
    places = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    size = places[:, None, 2:] - places[:, None, :2]
    return FacePhoto("photo", pixels, places, places[:, None, :2] + MIDDLES * size, NO_BOXES)


def red(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    values = pixels.astype(int)
    return np.asarray(values[..., 0] > 1.6 * values[..., 1] + 8)


@pytest.mark.parametrize("seed", range(24))
def test_an_examples_box_holds_its_face_and_its_points(seed: int) -> None:
    made = example(photo((120, 60, 160, 110)), np.random.default_rng(seed))
    assert made.pixels.shape == (SIDE, SIDE, 3)
    x0, y0, x1, y1 = made.boxes[0]
    eyes, nose, mouth = made.points[0, :2], made.points[0, 2], made.points[0, 3:]
    assert eyes[0, 0] < eyes[1, 0]  # left stays left, in a mirror too
    assert eyes[:, 1].mean() < nose[1] < mouth[:, 1].mean()
    assert (made.points[0] > [x0, y0]).all()
    assert (made.points[0] < [x1, y1]).all()
    # The picture's own color at the face's middle, if that is in sight and not dark or gray.
    x, y = int((x0 + x1) / 2), int((y0 + y1) / 2)
    face = made.pixels[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].reshape(-1, 3).astype(int)
    if 0 <= x < SIDE and 0 <= y < SIDE and np.ptp(face.mean(0)) > 40:
        assert face.mean(0).argmax() == 0


def test_a_composite_holds_the_faces_that_can_be_seen() -> None:
    ground = np.full((SIDE, SIDE, 3), 110, dtype=np.uint8)
    for seed in range(8):
        made = composite([photo((120, 60, 160, 110))] * 4, ground, np.random.default_rng(seed))
        assert 1 <= len(made.boxes) <= 4
        assert len(made.boxes) + len(made.ignored) == 4
        assert made.points.shape == (len(made.boxes), 5, 2)


def test_pictures_without_faces_differ() -> None:
    random = np.random.default_rng(0)
    made = [faceless(64, random) for _ in range(12)]
    assert all(picture.shape == (64, 64, 3) and picture.dtype == np.uint8 for picture in made)
    assert len({picture.tobytes() for picture in made}) == 12


def test_a_mask_covers_the_mouth_and_not_the_eyes() -> None:
    bare = np.full((160, 160, 3), 110, dtype=np.uint8)
    points = FRAME_POINTS.astype(np.float32)[None]
    face = FacePhoto("one", bare, np.array([[30, 30, 130, 150]], np.float32), points, NO_BOXES)
    blue = np.zeros((100, 200, 4), dtype=np.uint8)
    blue[...] = (30, 60, 220, 255)
    corners = [[0, 0], [100, 0], [200, 0], [0, 100], [100, 100], [200, 100]]
    template = Template("blue", blue, np.array(corners, dtype=np.float32))
    worn = [masked(face, template, np.random.default_rng(seed)) for seed in range(20)]
    changed = np.mean([(one != bare).any(2) for one in worn], 0)
    eye, mouth = points[0, 0].astype(int), points[0, 3:].mean(0).astype(int)
    assert changed[eye[1], eye[0]] == 0
    assert changed[mouth[1], mouth[0]] > 0.6  # else the mask hangs under the chin


def test_the_heat_of_a_face_is_one_at_its_middle_and_its_parts_are_learned_there() -> None:
    points = MIDDLES[None] * [32, 40] + [40, 60]
    heat, counts, learned, marks = targets(
        np.array([[40, 60, 72, 100]], np.float32), points.astype(np.float32), NO_BOXES, SIDE
    )
    row, column = divmod(int(heat.argmax()), heat.shape[1])
    assert (row, column) == (80 // STRIDE, 56 // STRIDE)
    assert heat.max() == 1
    assert learned[:, row, column].tolist() == [40, 60, 72, 100]
    np.testing.assert_allclose(marks[:, row, column], points.ravel(), rtol=1e-6)
    assert counts.all()
    assert np.isnan(learned[0, 0, 0])


def test_what_is_no_lesson_does_not_count() -> None:
    small = np.array([[40, 40, 43, 44]], dtype=np.float32)
    heat, counts, learned, _ = targets(small, np.zeros((1, 5, 2), np.float32), NO_BOXES, SIDE)
    assert heat.max() == 0
    assert np.isnan(learned).all()
    assert not counts[10, 10]
    _, counts, _, _ = targets(NO_BOXES, NO_POINTS, np.array([[8, 8, 24, 24]], np.float32), SIDE)
    assert not counts[3, 3]
    assert counts[10, 10]


def test_parts_of_a_face_too_large_for_a_pass_are_no_faces() -> None:
    large = np.array([[0, 0, 120, 126]], dtype=np.float32)
    heat, counts, _, _ = targets(large, np.zeros((1, 5, 2), np.float32), NO_BOXES, SIDE)
    assert heat.max() == 0
    assert not counts[15, 15]  # its middle
    assert counts[8, 8]  # an eye


def batch(*boxes: tuple[int, int, int, int]) -> tuple[torch.Tensor, ...]:
    one = photo(*boxes)
    made = targets(one.boxes, one.points, NO_BOXES, SIDE)
    return tuple(torch.from_numpy(part)[None] for part in made)


def test_a_perfect_answer_costs_nothing() -> None:
    heat, counts, learned, marks = batch((40, 60, 72, 100))
    wanted = (heat, counts, learned, marks)
    sure = torch.where(heat == 1, 20.0, -20.0)
    answer = (sure, learned.nan_to_num(1.0), marks.nan_to_num(0.0))
    focal, overlap, points = loss_of(answer, wanted)
    assert float(focal) < 1e-3
    assert float(overlap) == pytest.approx(0, abs=1e-5)
    assert float(points) == pytest.approx(0, abs=1e-5)
    wrong, _, far = loss_of((-sure, answer[1], answer[2] + 5), wanted)
    assert float(wrong) > 5
    assert float(far) > 0.05


def test_a_photo_without_faces_and_one_without_points_can_be_learned_from() -> None:
    heat, counts, learned, marks = batch()
    logits = torch.zeros_like(heat, requires_grad=True)
    sum(
        loss_of(
            (logits, torch.ones_like(learned), torch.ones_like(marks)),
            (heat, counts, learned, marks),
        )
    ).backward()
    assert logits.grad is not None
    assert (logits.grad >= 0).all()
    heat, counts, learned, marks = batch((40, 60, 72, 100))
    answer = (torch.zeros_like(heat), learned.nan_to_num(1.0), torch.ones_like(marks))
    losses = loss_of(answer, (heat, counts, learned, marks * torch.nan))
    assert losses[2] == 0


def candidates(*rows: tuple[float, ...]) -> NDArray[np.float32]:
    """Candidates ``(x0, y0, x1, y1, finder, MTCNN)`` as ``boxed`` takes them."""
    return np.array([[0, *row[:4], *[1.0] * 10, *row[4:]] for row in rows], dtype=np.float32)


def test_a_portrait_counts_where_two_detectors_agree_and_doubts_are_left_out() -> None:
    pixels = np.zeros((250, 250, 3), dtype=np.uint8)
    main, eye = (80, 70, 170, 190, 0.7, 0.99), (95, 100, 115, 120, 0.5, 0.1)
    behind, unsure = (5, 5, 40, 50, 0.6, 0.95), (200, 10, 240, 60, 0.5, 0.2)
    one = boxed("faces/train/a/a.jpg", candidates(behind, main, eye, unsure), pixels)
    assert one is not None
    assert one.boxes.tolist() == [list(main[:4]), list(behind[:4])]
    assert one.ignored.tolist() == [list(unsure[:4])]  # an eye is surely no face
    assert boxed("faces/train/a/a.jpg", candidates(behind, unsure), pixels) is None


def test_drawn_and_found_boxes_turn_into_each_other() -> None:
    boxes = np.array([[10, 20, 50, 80], [0, 0, 8, 9]], dtype=np.float32)
    np.testing.assert_allclose(as_drawn(as_found(boxes)), boxes, atol=1e-4)


def test_held_out_photos_are_on_one_side_only() -> None:
    photos = [
        FacePhoto(str(i), np.zeros((1, 1, 3), np.uint8), NO_BOXES, NO_POINTS, NO_BOXES)
        for i in range(20)
    ]
    inside, outside = hold_out(photos, 0.25)
    assert len(outside) == 5
    assert {p.name for p in inside} | {p.name for p in outside} == {str(i) for i in range(20)}


def test_a_wider_network_is_narrowed_to_start_from() -> None:
    torch.manual_seed(0)
    new = FaceNetwork().state_dict()
    wide = {"stem.1.": 32, "from_quarter.": 48, "from_eighth.": 48, "merge_quarter.": 48}

    def grown(name: str, tensor: torch.Tensor) -> torch.Tensor:
        shape = list(tensor.shape)
        if shape and name.startswith(tuple(wide)):
            shape[0] = next(size for place, size in wide.items() if name.startswith(place))
        if len(shape) == 4:
            known = {24: 32, 32: 48}
            shape[1] = known.get(shape[1], shape[1]) if not name.startswith("from_eighth") else 64
        if shape and name.startswith("quarter."):
            shape[0] = 32
        if shape and name.startswith("heads.0."):
            shape[0] = 48
        if shape and name.startswith("heads.1."):
            shape[0] = 5
        return torch.rand(shape) + 1

    old = {
        name.replace("quarter.", "quarter.0.") if name.startswith("quarter.") else name: grown(
            name, tensor
        )
        for name, tensor in new.items()
    }
    kept = narrowed(old, new)
    assert {name: tensor.shape for name, tensor in kept.items()} == {
        name: tensor.shape for name, tensor in new.items()
    }
    assert torch.equal(kept["sixteenth.1.body.1.weight"], old["sixteenth.1.body.1.weight"])
    assert torch.equal(kept["heads.1.weight"][5:], new["heads.1.weight"][5:])
    assert (kept["heads.1.weight"][:5] >= 1).all()


def test_the_rate_rises_stays_and_falls() -> None:
    config = FinderConfig(steps=100, decay=40, warmup=10)
    rates = [rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(config.max_lr / 10)
    assert rates[9:60] == [config.max_lr] * 51
    assert all(np.diff(rates[60:]) < 0)


def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    pictures = Pictures([photo((120, 60, 160, 110))], [], [])
    config = FinderConfig(steps=4, decay=1, batch_size=2, warmup=1)
    whole, first, second = Training(config), Training(config), Training(config)
    for _ in range(4):
        whole.advance(pictures)
    for _ in range(2):
        first.advance(pictures)
    first.save(tmp_path / "state.pt")
    second.load(tmp_path / "state.pt")
    for _ in range(2):
        second.advance(pictures)
    for ours, theirs in zip(whole.mean.parameters(), second.mean.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_batch_is_of_images_and_all_targets() -> None:
    pictures = Pictures([photo((120, 60, 160, 110))], [photo((120, 60, 160, 110))], [])
    images, wanted = batch_of(pictures, FinderConfig(batch_size=6), np.random.default_rng(0))
    assert images.shape == (6, 3, SIDE, SIDE)
    assert 0 <= float(images.min()) < float(images.max()) <= 1
    cells = SIDE // STRIDE
    assert [tuple(part.shape) for part in wanted] == [
        (6, cells, cells),
        (6, cells, cells),
        (6, 4, cells, cells),
        (6, 10, cells, cells),
    ]


@pytest.mark.slow
def test_learns_to_find_rectangles() -> None:
    random = np.random.default_rng(0)
    photos = []
    for _ in range(30):
        x, y = random.integers(0, 220), random.integers(0, 130)
        side = random.integers(20, 60)
        photos.append(photo((x, y, x + side, y + side)))
    config = FinderConfig(steps=120, decay=60, batch_size=8, warmup=10)
    network = train_finder(Pictures(photos, [], []), config)
    hits = 0
    for held in photos[:10]:
        found = find_faces(network, held.pixels, threshold=0.2)
        if len(found.boxes):
            hits += bool(np.abs(found.boxes[0] - held.boxes[0]).max() < 15)
    assert hits >= 8
