"""Ratings against what dlib itself says."""

import math
from typing import Any

import dlib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from services.worker.masks.hog.baseline import own_face, tile
from services.worker.masks.hog.detector import detect
from services.worker.masks.hog.objectives import Decoys, Hide
from services.worker.masks.hog.placing import LowerFace, cut_line
from services.worker.masks.hog.wearers import find_face

Picture = NDArray[np.uint8]
DLIB = dlib.get_frontal_face_detector()
ASTRONAUT = data.astronaut()
NOBODY = np.full((160, 160, 3), 90, dtype=np.uint8)


@pytest.fixture(scope="module")
def faces() -> list[Picture]:
    """A tiled face, a photo, noise, and nothing."""
    noise = np.random.default_rng(0).integers(0, 256, (200, 260, 3), dtype=np.uint8)
    return [tile(own_face("drawn"), 80, height=300, width=340), ASTRONAUT, noise, NOBODY]


def test_decoys_are_as_many_as_dlib_finds(faces: list[Picture]) -> None:
    ratings = [Decoys().rate(face) for face in faces]

    counts = [len(DLIB(face, 0)) for face in faces]
    assert [rating.found for rating in ratings] == counts
    assert counts[0] > 5
    assert counts[1:] == [1, 0, 0]
    for rating, face in zip(ratings, faces, strict=True):
        _, scores, _ = DLIB.run(face, 0, -2.0)
        expected = sum(1 / (1 + math.exp(-3 * score)) for score in scores)
        assert rating.fitness == pytest.approx(expected)
        assert rating.scores == pytest.approx(sorted((s for s in scores if s > 0), reverse=True))


def test_more_faces_always_rank_higher(faces: list[Picture]) -> None:
    ranks = [Decoys().rate(face).rank for face in faces]

    assert max(ranks) == ranks[0]
    assert ranks[1] > max(ranks[2:])


def test_counts_at_several_scales_add_up(faces: list[Picture]) -> None:
    tiled = faces[0]
    half = np.asarray(Image.fromarray(tiled).resize((680, 600), Image.Resampling.BILINEAR))

    found = Decoys(scales=(1.0, 2.0)).rate(tiled).found

    assert found == len(DLIB(tiled, 0)) + len(DLIB(half, 0))
    assert Decoys(upsample=1).rate(ASTRONAUT).found == len(DLIB(ASTRONAUT, 1))


@pytest.mark.parametrize(
    "wrong", [{"scales": ()}, {"scales": (0.0,)}, {"scales": (5.0,)}, {"upsample": 3}]
)
def test_decoys_refuse_numbers_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"scales lie|doubled"):
        Decoys(**wrong)


def test_a_pattern_that_becomes_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="larger than 4096"):
        Decoys(scales=(4.0,)).rate(np.zeros((1100, 100, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((20, 20), dtype=np.uint8),
        np.zeros((20, 20, 4), dtype=np.uint8),
        np.zeros((20, 20, 3), dtype=np.float64),
        np.zeros((0, 20, 3), dtype=np.uint8),
        np.zeros((8, 5000, 3), dtype=np.uint8),
    ],
)
def test_the_detector_takes_pictures_only(wrong: Any) -> None:
    with pytest.raises(ValueError, match="a picture"):
        detect(wrong)


@pytest.fixture(scope="module")
def hide() -> Hide:
    return Hide.of([NOBODY, ASTRONAUT], sizes=(140, 100))


def nothing_on(photo: Picture, box: Any, pattern: Picture) -> Picture:
    return photo


def test_the_wearer_is_seen_at_every_size_until_something_is_worn(hide: Hide) -> None:
    bare = hide.rate_bare()

    assert hide.views == ((1, 100), (1, 140)), "a photo without a face is left out"
    assert bare.found == 2
    assert min(bare.scores) > 0
    black = hide.rate(np.zeros((64, 64, 3), dtype=np.uint8))
    assert black.found == 0
    assert black.fitness > bare.fitness
    assert black.rank > bare.rank


def test_a_view_is_scored_by_the_best_window_on_the_face(hide: Hide) -> None:
    bare = hide.rate_bare()
    (wearer,) = hide.wearers
    for score, size in zip(bare.scores, wearer.sizes, strict=True):
        scale = size / (wearer.box[2] - wearer.box[0])
        shape = [round(scale * side) for side in wearer.picture.shape[1::-1]]
        view = np.array(Image.fromarray(wearer.picture).resize(shape, Image.Resampling.BICUBIC))
        left, top, right, bottom = (round(scale * side) for side in wearer.box)
        face = dlib.rectangle(left, top, right - 1, bottom - 1)
        boxes, scores, _ = DLIB.run(view, 0, -2.0)
        near = [
            found
            for box, found in zip(boxes, scores, strict=True)
            if (shared := box.intersect(face).area())
            and shared / (box.area() + face.area() - shared) >= 0.3
        ]
        assert score == pytest.approx(max(near), abs=0.02)
    assert bare.fitness == pytest.approx(-np.mean(bare.scores))


def test_what_is_put_on_is_rated_and_the_photo_stays_as_it_is(hide: Hide) -> None:
    (before,) = [wearer.picture.copy() for wearer in hide.wearers]
    unmasked = Hide(wearers=hide.wearers, place=nothing_on)

    assert unmasked.rate(np.zeros((64, 64, 3), dtype=np.uint8)) == hide.rate_bare()
    hide.rate(np.zeros((64, 64, 3), dtype=np.uint8))
    assert np.array_equal(hide.wearers[0].picture, before)


def test_a_place_that_changes_the_photos_size_is_refused(hide: Hide) -> None:
    cut = Hide(wearers=hide.wearers, place=lambda photo, box, pattern: photo[1:])
    with pytest.raises(ValueError, match="placing made"):
        cut.rate(np.zeros((64, 64, 3), dtype=np.uint8))


def test_without_a_face_nothing_can_be_hidden() -> None:
    with pytest.raises(ValueError, match="no face on any of the 2 photos"):
        Hide.of([NOBODY, NOBODY])
    for sizes in ((), (40,), (2000,)):
        with pytest.raises(ValueError, match="can be looked at"):
            Hide.of([ASTRONAUT], sizes=sizes)


def test_a_large_photo_is_searched_reduced_and_its_box_is_in_its_own_pixels() -> None:
    small = find_face(ASTRONAUT)
    large = find_face(np.asarray(Image.fromarray(ASTRONAUT).resize((1536, 1536))))

    assert small is not None
    assert large is not None
    assert np.array(large) / 3 == pytest.approx(np.array(small), abs=12)
    assert find_face(NOBODY) is None


def test_a_mask_covers_the_lower_face_and_nothing_else() -> None:
    photo = np.zeros((200, 200, 3), dtype=np.uint8)
    pattern = np.zeros((30, 30, 3), dtype=np.uint8)
    pattern[:15], pattern[15:] = (0, 255, 0), (0, 0, 255)
    worn = LowerFace(top=0.5, bottom=1.0, inset=0.1)(photo, (40, 20, 140, 120), pattern)

    covered = worn.any(axis=2)
    down, across = np.nonzero(covered)
    assert (down.min(), down.max() + 1) == (70, 120)
    assert (across.min(), across.max() + 1) == (50, 130)
    assert tuple(worn[72, 90]) == (0, 255, 0)
    assert tuple(worn[118, 90]) == (0, 0, 255)
    assert covered[71, 51], "the upper corners are square"
    assert not covered[118, 51], "the lower ones are round"
    assert not photo.any()


def test_a_face_at_the_edge_wears_what_is_left_of_the_mask() -> None:
    photo = np.zeros((100, 100, 3), dtype=np.uint8)
    worn = LowerFace()(photo, (-30, 50, 60, 140), np.full((8, 8, 3), 9, dtype=np.uint8))

    assert worn.shape == photo.shape
    assert worn[95, 20].all()
    assert not worn[:90].any()


def test_the_cut_line_encloses_what_the_mask_covers() -> None:
    mask = LowerFace()
    width, height = mask.size(300, 300)
    photo = np.zeros((400, 400, 3), dtype=np.uint8)
    pattern = np.full((8, 8, 3), 255, dtype=np.uint8)
    worn = mask(photo, (0, 0, 300, 300), pattern)[..., 0].astype(float)

    x, y = cut_line(width, height).T

    assert (x.min(), x.max(), y.min(), y.max()) == pytest.approx((0, width, 0, height))
    assert (x[0], y[0]) == (x[-1], y[-1])
    enclosed = abs((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) / 2  # Gauss's area formula
    assert enclosed == pytest.approx(worn.sum() / 255, rel=0.01)


@pytest.mark.parametrize("wrong", [{"top": 1.2}, {"bottom": 3.0}, {"inset": 0.5}])
def test_an_empty_mask_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="cannot reach"):
        LowerFace(**wrong)
