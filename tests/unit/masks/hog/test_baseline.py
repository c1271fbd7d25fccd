"""One face tiled, against dlib's own count."""

import dlib
import numpy as np
import pytest
from PIL import Image
from skimage import data

from services.worker.masks.hog.baseline import (
    COLORS,
    PUBLISHED_TILING,
    best_tiling,
    own_face,
    plain_masks,
    tile,
)
from services.worker.masks.hog.objectives import Hide

DLIB = dlib.get_frontal_face_detector()


def test_a_tiling_repeats_the_face_and_is_cut_at_the_edge() -> None:
    face = own_face("drawn")
    small = np.asarray(Image.fromarray(face).resize((40, 40), Image.Resampling.LANCZOS))

    tiled = tile(face, 40, height=100, width=130)

    rows, columns = np.indices((100, 130))
    assert np.array_equal(tiled, small[rows % 40, columns % 40])


def test_the_best_side_is_the_one_where_dlib_finds_most() -> None:
    sides = (64, 80, 120)
    best = best_tiling(own_face("drawn"), sides, height=300, width=300)

    counts = {
        side: len(DLIB(tile(own_face("drawn"), side, height=300, width=300), 0)) for side in sides
    }
    assert len(best.detections) == counts[best.side] == max(counts.values())
    assert np.array_equal(best.picture, tile(own_face("drawn"), best.side, height=300, width=300))


def test_a_stretched_face_is_tried_at_every_width() -> None:
    face = own_face("drawn")
    best = best_tiling(face, (76,), stretched=(64, 76))

    sized = Image.fromarray(face).resize((best.across, 76), Image.Resampling.LANCZOS)
    rows, columns = np.indices((766, 766))
    assert np.array_equal(best.picture, np.asarray(sized)[rows % 76, columns % best.across])
    square = best_tiling(face, (76,))
    assert (best.side, best.across, square.across) == (76, 64, 76)
    assert len(DLIB(best.picture, 0)) == len(best.detections) > len(square.detections)


def test_the_drawn_face_beats_the_published_tiling_on_its_canvas() -> None:
    best = best_tiling(own_face("drawn"), (72, 80))

    assert best.picture.shape == (766, 766, 3)
    assert len(DLIB(best.picture, 0)) == len(best.detections) > PUBLISHED_TILING


def test_a_tiling_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="no side"):
        best_tiling(own_face("strokes"), ())
    for side in (4, 301):
        with pytest.raises(ValueError, match="cannot be tiled"):
            best_tiling(own_face("strokes"), (side,), height=300, width=300)
    with pytest.raises(ValueError, match="a picture is uint8"):
        tile(np.zeros((8, 8), dtype=np.uint8), 8, height=16, width=16)
    with pytest.raises(ValueError, match="64 x 4 pixels"):
        best_tiling(own_face("strokes"), (64,), stretched=(4,))


def test_plain_masks_are_rated_beside_the_bare_face() -> None:
    hide = Hide.of([data.astronaut()], sizes=(100,))

    ratings = plain_masks(hide)

    assert set(ratings) == {"bare", *COLORS}
    assert ratings["bare"] == hide.rate_bare()
    white = np.full((10, 10, 3), 255, dtype=np.uint8)
    assert ratings["white"] == hide.rate(white)
