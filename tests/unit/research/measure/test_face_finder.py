"""COCO's AP of known finds, portraits judged, and pictures that have no face to find."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from research.measure.face_finder import average_precision, judge_portraits
from research.measure.faceless import page, product, sky, weave
from services.worker.faces.face import Corners, Face

NO_POINTS = np.zeros((5, 2), dtype=np.float32)
A, B, C = (0.0, 0.0, 10.0, 10.0), (50.0, 0.0, 60.0, 10.0), (0.0, 50.0, 10.0, 60.0)


def face(box: Corners, score: float) -> Face:
    return Face(box, score, NO_POINTS)


def test_ap_is_the_area_under_precision_and_recall() -> None:
    assert average_precision([[A, B]], [[face(A, 0.9), face(B, 0.8)]]) == pytest.approx(1)
    assert average_precision([[A, B]], [[]]) == 0
    # One of two faces found: precision 1 up to a recall of .5, at 51 of COCO's 101 recalls.
    assert average_precision([[A, B]], [[face(A, 0.9)]]) == pytest.approx(51 / 101)
    # A false find that is surer than both halves precision at first; it is 2/3 in the end.
    false_first = [[face(C, 0.95), face(A, 0.9)], [face(B, 0.8)]]
    assert average_precision([[A], [B]], false_first) == pytest.approx(2 / 3)


def test_a_second_find_of_a_face_is_a_false_one() -> None:
    twice = [[face(A, 0.9), face((0.0, 0.0, 10.0, 9.0), 0.8), face(B, 0.7)]]
    assert average_precision([[A, B]], twice) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_portraits_count_by_one_find_and_by_the_middle(tmp_path: Path) -> None:
    for person, color in (("a", 10), ("b", 20), ("c", 30)):
        (tmp_path / person).mkdir()
        Image.new("RGB", (100, 100), (color, color, color)).save(tmp_path / person / "1.jpg")
    middle, corner = (30.0, 30.0, 70.0, 70.0), (0.0, 0.0, 20.0, 20.0)
    answers = {10: [face(middle, 1)], 20: [face(middle, 1), face(corner, 1)], 30: [face(corner, 1)]}
    one, central = judge_portraits(tmp_path, lambda image: answers[int(image[0, 0, 0])])
    assert (one.successes, central.successes, central.total) == (2, 2, 3)


def test_pictures_without_faces_are_photos_of_several_sizes(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.new("RGBA", (80, 60), (30, 90, 200, 255)).save(path)
    random = np.random.default_rng(0)
    made = [draw(random) for draw in (page, sky, weave)] + [product(path, random)]
    for picture in made:
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert min(picture.shape[:2]) >= 200
        assert picture.std() > 5
