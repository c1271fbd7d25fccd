"""Overlap of boxes, against areas counted by hand."""

import numpy as np
import pytest

from services.worker.faces.boxes import Corners, overlap, overlaps


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((0, 0, 10, 10), 1.0),
        ((5, 0, 15, 10), 1 / 3),
        ((10, 0, 20, 10), 0.0),
        ((2, 2, 8, 8), 0.36),
    ],
)
def test_overlap(other: Corners, expected: float) -> None:
    assert overlap((0, 0, 10, 10), other) == pytest.approx(expected)
    assert overlap(other, (0, 0, 10, 10)) == pytest.approx(expected)
    assert overlaps(np.array([other]), (0, 0, 10, 10)) == pytest.approx([expected])
