"""Places in turned photos are those that NumPy turns pixels to."""

import numpy as np
import pytest

from services.worker.faces.turning import corners_of, turned, turned_back


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_places_follow_the_pixels(turn: int) -> None:
    photo = np.zeros((5, 8), dtype=np.uint8)
    photo[1, 6] = 1
    row, column = np.argwhere(np.rot90(photo, turn))[0]
    middle = np.array([[6.5, 1.5]], dtype=np.float32)  # of the pixel
    there = turned(middle, turn, 8, 5)
    assert there.tolist() == [[column + 0.5, row + 0.5]]
    assert turned_back(there, turn, 8, 5).tolist() == middle.tolist()


def test_corners_are_put_in_order() -> None:
    boxes = np.array([[6, 1, 2, 4], [0, 0, 1, 1]], dtype=np.float32)
    assert corners_of(boxes).tolist() == [[2, 1, 6, 4], [0, 0, 1, 1]]
    assert corners_of(np.empty((0, 4), dtype=np.float32)).shape == (0, 4)
