"""Finds are matched to labels as Pascal VOC does it."""

from pathlib import Path

import numpy as np

from research.measure.classifiers import match, search, size_of
from services.worker.faces.face import Face
from tests.unit.datasets.test_labeled import voc

Corners = tuple[float, float, float, float]


def found(box: Corners, score: float = 0.9) -> Face:
    return Face(box, score, np.zeros((5, 2), dtype=np.float32))


def test_a_second_find_of_the_same_face_is_not_a_second_face() -> None:
    surer, other = found((0, 0, 10, 10), 0.9), found((1, 0, 11, 10), 0.8)
    assert match([(0, 0, 10, 10)], [other, surer]) == [surer]


def test_neighbors_each_keep_their_own_find() -> None:
    left, right = found((0, 0, 10, 10), 0.7), found((12, 0, 22, 10), 0.9)
    assert match([(0, 0, 10, 10), (12, 0, 22, 10)], [right, left]) == [left, right]


def test_less_than_half_an_overlap_is_none() -> None:
    assert match([(0, 0, 10, 10)], [found((4, 0, 14, 10))]) == [None]
    assert match([(0, 0, 10, 10)], []) == [None]
    assert match([], [found((0, 0, 1, 1))]) == []


def test_a_search_counts_faces_and_finds(tmp_path: Path) -> None:
    photos = [
        [("with_mask", (20, 20, 60, 60)), ("without_mask", (80, 10, 95, 25))],
        [("with_mask", (10, 10, 40, 40))],
    ]
    result = search(
        voc(tmp_path, photos), lambda _: [found((20, 20, 60, 60)), found((100, 70, 120, 90))]
    )
    assert [face.found is not None for face in result.faces] == [True, False, False]
    assert (result.recall.successes, result.recall.total) == (1, 3)
    assert (result.precision.successes, result.precision.total) == (1, 4)
    by_label = result.recall_by(lambda face: face.label)
    assert (by_label["with_mask"].successes, by_label["with_mask"].total) == (1, 2)
    assert {size_of(face) for face in result.faces} == {"under 20 px", "20 to 40 px", "from 40 px"}
