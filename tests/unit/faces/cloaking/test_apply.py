"""What is added to a photo, and where it is not."""

import numpy as np
import pytest
import torch

from services.worker.faces.alignment import FRAME, FRAME_POINTS, Alignment, align, cut_frame
from services.worker.faces.cloaking.apply import apply_cloaks, region_of
from services.worker.faces.crops import Pixels


def photo(height: int = 500, width: int = 600, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(30, 220, (height, width, 3), dtype=np.uint8)


def at(x: float, y: float, scale: float = 1.0) -> Alignment:
    return align(FRAME_POINTS * scale + (x, y))


@pytest.mark.parametrize("eps", [3.0, 7.9, 16.0])
@pytest.mark.parametrize("scale", [0.3, 1.0, 2.4])
def test_no_sample_moves_by_more_than_eps_and_nothing_outside(eps: float, scale: float) -> None:
    clean = photo()
    alignment = at(100, 50, scale)
    change = torch.from_numpy(
        np.random.default_rng(1).uniform(-40, 40, (3, FRAME, FRAME)).astype(np.float32)
    )

    applied = apply_cloaks(clean, [alignment], [change], eps=eps)

    moved = np.abs(applied.photo.astype(int) - clean)
    assert moved.max() == int(eps)
    x0, y0, x1, y1 = applied.regions[0]
    moved[y0:y1, x0:x1] = 0
    assert not moved.any()


def test_a_change_arrives_where_it_was_made() -> None:
    clean = np.full((400, 400, 3), 100, dtype=np.uint8)
    alignment = at(40.0, 60.0, 1.7)
    change = torch.zeros(3, FRAME, FRAME)
    change[0, 60:100, 30:90] = 8

    applied = apply_cloaks(clean, [alignment], [change], eps=8)

    back = cut_frame(applied.photo, alignment).astype(int) - 100
    assert (back[64:96, 34:86, 0] == 8).all()
    assert (back[..., 1:] == 0).all()
    assert (back[:56, :, 0] == 0).all()


def test_overlapping_faces_add_up_and_are_cut() -> None:
    clean = np.full((300, 400, 3), 100, dtype=np.uint8)
    changes = [torch.full((3, FRAME, FRAME), 5.0), torch.full((3, FRAME, FRAME), 6.0)]

    applied = apply_cloaks(clean, [at(20, 40), at(100, 40)], changes, eps=8)

    row = applied.photo[120, :, 0].astype(int) - 100
    assert row[60] == 5
    assert row[140] == 8, "5 and 6 are more than eps allows"
    assert row[230] == 6


@pytest.mark.parametrize("place", [(-90, -70), (550, 420), (-400, -400), (900, 10)])
def test_faces_at_the_edge_and_beyond_it(place: tuple[int, int]) -> None:
    clean = photo()

    applied = apply_cloaks(clean, [at(*place)], [torch.full((3, FRAME, FRAME), 4.0)], eps=4)

    assert applied.photo.shape == clean.shape
    x0, y0, x1, y1 = region_of(at(*place), *clean.shape[:2])
    assert 0 <= x0 <= x1 <= 600
    assert 0 <= y0 <= y1 <= 500
    assert np.array_equal(applied.photo, clean) == (x0 == x1 or y0 == y1)


def test_values_stay_within_eight_bits() -> None:
    clean = np.array([0, 255], dtype=np.uint8).repeat(100 * 200 * 3).reshape(200, 200, 3)

    applied = apply_cloaks(clean, [at(10, 10)], [torch.full((3, FRAME, FRAME), 9.0)], eps=9)

    assert set(np.unique(applied.photo)) == {0, 9, 255}
