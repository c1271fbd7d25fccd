"""The face finder on a real portrait: alone, in a group, small, large, and not there."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from services.worker.faces.detection import FaceDetector
from services.worker.faces.turning import corners_of, turned

Pixels = NDArray[np.uint8]

# Eileen Collins' face in scikit-image's portrait, marked by hand (chin to hairline, ear to ear).
FACE = (175.0, 70.0, 275.0, 205.0)


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="module")
def portrait() -> Pixels:
    return data.astronaut()


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    x = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    y = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return x * y / (area - x * y)


def turned_to(
    places: NDArray[np.float32] | tuple[float, ...], turn: int, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Return where points, or a box's corners, lie after quarter turns."""
    return turned(np.array(places, dtype=np.float32).reshape(-1, 2), turn, *size).reshape(
        np.shape(places)
    )


def scaled(image: Pixels, factor: float) -> Pixels:
    height, width = image.shape[:2]
    size = (round(width * factor), round(height * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def best(detector: FaceDetector, image: Pixels) -> tuple[float, ...]:
    return max(detector.detect(image), key=lambda face: face.score).box


def test_finds_the_face_of_a_portrait(detector: FaceDetector, portrait: Pixels) -> None:
    face = max(detector.detect(portrait), key=lambda face: face.score)
    assert overlap(face.box, FACE) > 0.5
    assert 0.6 < face.score <= 1
    assert face.landmarks.shape == (5, 2)
    eyes, mouth = face.landmarks[:2], face.landmarks[3:]
    assert eyes[:, 1].max() < face.landmarks[2, 1] < mouth[:, 1].min()


@pytest.mark.parametrize("factor", [0.25, 0.5, 4.0, 6.0])
def test_small_and_large_photos_give_the_same_box(
    detector: FaceDetector, portrait: Pixels, factor: float
) -> None:
    box = best(detector, scaled(portrait, factor))
    there = tuple(value / factor for value in box)
    assert overlap(there, best(detector, portrait)) > 0.7


def test_finds_everybody_in_a_group(detector: FaceDetector, portrait: Pixels) -> None:
    single = scaled(portrait, 0.4)
    group = np.concatenate([np.concatenate([single] * 4, 1)] * 3, 0)
    side = single.shape[0]
    cells = {
        (int((f.box[1] + f.box[3]) / 2 // side), int((f.box[0] + f.box[2]) / 2 // side))
        for f in detector.detect(group)
    }
    assert cells == {(row, column) for row in range(3) for column in range(4)}


def test_finds_a_face_that_fills_the_picture(detector: FaceDetector, portrait: Pixels) -> None:
    close = portrait[60:215, 160:290]
    faces = detector.detect(close)
    assert faces
    assert faces[0].area > 0.3 * close.shape[0] * close.shape[1]


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (20, 2000), (3000, 4), (256, 256)])
def test_finds_nothing_in_nothing(detector: FaceDetector, shape: tuple[int, int]) -> None:
    assert detector.detect(np.full((*shape, 3), 127, dtype=np.uint8)) == []


def test_boxes_lie_inside_and_come_largest_first(detector: FaceDetector, portrait: Pixels) -> None:
    cut, small = portrait[:, 190:], scaled(portrait, 0.5)
    image = np.full((512, cut.shape[1] + 256, 3), 127, dtype=np.uint8)
    image[:, : cut.shape[1]] = cut
    image[:256, cut.shape[1] :] = small
    faces = detector.detect(image)
    assert len(faces) >= 2
    for face in faces:
        x0, y0, x1, y1 = face.box
        assert 0 <= x0 < x1 <= image.shape[1]
        assert 0 <= y0 < y1 <= image.shape[0]
    assert [face.area for face in faces] == sorted((f.area for f in faces), reverse=True)


def test_a_face_turned_by_30_degrees_gives_one_box(
    detector: FaceDetector, portrait: Pixels
) -> None:
    turned = Image.fromarray(portrait).rotate(30, expand=True, fillcolor=(128, 128, 128))
    assert len(detector.detect(np.asarray(turned))) == 1


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_turned_photo_is_searched_turned_by_itself(
    detector: FaceDetector, portrait: Pixels, turn: int
) -> None:
    photo = np.rot90(portrait, -turn)
    assert detector.search(photo, turns="none").faces == []
    found = detector.search(photo)
    assert found.searched.turns == (0, 1, 2, 3)
    (face,) = found.faces
    assert face.turn == turn
    (upright,) = detector.search(portrait).faces
    assert detector.search(portrait).searched.turns == (0,)
    size = photo.shape[1], photo.shape[0]
    assert overlap(tuple(corners_of(turned_to(face.box, turn, size)[None])[0]), upright.box) > 0.9
    points = turned_to(face.landmarks, turn, size)
    assert np.abs(points - upright.landmarks).max() < 4


def test_upright_and_turned_faces_are_found_when_all_turns_are_searched(
    detector: FaceDetector, portrait: Pixels
) -> None:
    both = np.concatenate([portrait, np.rot90(portrait)], 1)
    assert len(detector.search(both).faces) == 1
    faces = detector.search(both, turns="all").faces
    assert sorted(face.turn for face in faces) == [0, 3]


def test_small_faces_are_found_in_large_photos(detector: FaceDetector, portrait: Pixels) -> None:
    head = Image.fromarray(portrait[20:300, 120:340]).resize((110, 140), Image.Resampling.BOX)
    photo = np.full((800, 6000, 3), 128, dtype=np.uint8)
    places = range(200, 5800, 700)
    for x in places:
        photo[400:540, x : x + 110] = head
    found = detector.search(photo)
    assert found.searched.smallest == 20
    assert sorted(round((face.box[0] - 20) / 700) for face in found.faces) == list(range(8))


def test_a_page_of_print_has_no_face(detector: FaceDetector) -> None:
    page = Image.new("RGB", (600, 400), "white")
    draw = ImageDraw.Draw(page)
    for row in range(18):
        text = "the moon above 8 Oslo roads @ 2019 ( good book ) & 60 people" * 2
        draw.text((10, 10 + 21 * row), text, fill="black", font=ImageFont.load_default(16))
    assert detector.detect(np.asarray(page)) == []


def test_several_photos_at_once_give_what_each_gives_alone(
    detector: FaceDetector, portrait: Pixels
) -> None:
    empty = np.full((256, 256, 3), 127, dtype=np.uint8)
    photos = [portrait, empty, portrait[:, :300], scaled(portrait, 0.5), portrait[::-1].copy()]
    for image, made in zip(photos, detector.search_all(photos), strict=True):
        ours, alone = made.faces, detector.detect(image)
        assert len(ours) == len(alone)
        for a, b in zip(ours, alone, strict=True):
            assert a.box == pytest.approx(b.box, abs=1e-3)
            assert a.score == pytest.approx(b.score, abs=1e-5)
            assert np.abs(a.landmarks - b.landmarks).max() < 1e-2
    assert detector.search_all([]) == []


def test_several_threads_find_the_same(detector: FaceDetector, portrait: Pixels) -> None:
    alone = [face.box for face in detector.detect(portrait)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: detector.detect(portrait), range(4)))
    assert [[face.box for face in faces] for faces in found] == [alone] * 4


def test_leaves_the_photo_and_the_gradient_mode_alone(
    detector: FaceDetector, portrait: Pixels
) -> None:
    before = portrait.copy()
    detector.detect(portrait)
    assert np.array_equal(portrait, before)
    assert torch.is_grad_enabled()
