"""Aligned frames against OpenCV's and scikit-image's own estimates."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.transform import SimilarityTransform

from services.worker.faces.alignment import (
    FRAME,
    FRAME_POINTS,
    align,
    cut_frame,
    inverse,
    reduced_patch,
    similarity,
)


def turned(angle: float, scale: float, shift: tuple[float, float]) -> NDArray[np.float64]:
    """Return the frame's points, turned, scaled and moved into a photo."""
    turn = SimilarityTransform(scale=scale, rotation=angle, translation=shift)
    return np.asarray(turn(FRAME_POINTS))


@pytest.mark.parametrize("seed", range(5))
def test_is_the_least_squares_similarity(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = turned(rng.uniform(-3, 3), rng.uniform(0.1, 9), (50, 80)) + rng.normal(0, 3, (5, 2))

    found = similarity(source, FRAME_POINTS)

    expected = SimilarityTransform.from_estimate(source, FRAME_POINTS)
    np.testing.assert_allclose(found, expected.params[:2], atol=1e-9)
    np.testing.assert_allclose(inverse(found), np.linalg.inv(expected.params)[:2], atol=1e-9)


def test_points_that_coincide_are_refused() -> None:
    with pytest.raises(ValueError, match="coincide"):
        align(np.full((5, 2), 7.0))


def test_scale_is_in_photo_pixels() -> None:
    assert align(turned(0.4, 3.5, (10, 20))).scale == pytest.approx(3.5)


def test_a_frame_at_its_own_scale_is_the_photo_itself() -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (FRAME + 40, FRAME + 60, 3), dtype=np.uint8)
    alignment = align(FRAME_POINTS + np.array([30, 20]))

    frame = cut_frame(photo, alignment)

    np.testing.assert_array_equal(frame, photo[20 : 20 + FRAME, 30 : 30 + FRAME])


@pytest.mark.parametrize("scale", [2.0, 5.0, 9.3])
def test_a_large_face_is_reduced_without_aliasing(scale: float) -> None:
    side = round(FRAME * scale) + 40
    yy, xx = np.mgrid[:side, :side]
    smooth = 127 + 45 * np.sin(xx / (20 * scale)) + 45 * np.cos(yy / (13 * scale))
    checker = 40 * ((xx + yy) % 2) - 20  # as fine as can be: gone from a reduced copy
    photo = np.clip(smooth + checker, 0, 255).astype(np.uint8)[..., None].repeat(3, 2)
    alignment = align(turned(0.0, scale, (20, 20)))

    frame = cut_frame(photo, alignment)

    inner = slice(4, -4)
    places = np.arange(FRAME) * scale + 20
    expected = (
        127 + 45 * np.sin(places / (20 * scale)) + 45 * np.cos(places / (13 * scale))[:, None]
    )
    assert np.abs(frame[..., 0] - expected)[inner, inner].max() < 6


def test_a_turned_frame_is_what_opencv_cuts() -> None:
    rng = np.random.default_rng(2)
    photo = cv2.GaussianBlur(rng.integers(0, 256, (400, 400, 3), dtype=np.uint8), (0, 0), 3)
    alignment = align(turned(0.5, 1.2, (120, 60)))

    frame = cut_frame(np.asarray(photo, dtype=np.uint8), alignment)

    expected = cv2.warpAffine(
        photo, alignment.to_frame, (FRAME, FRAME), borderMode=cv2.BORDER_REPLICATE
    )
    assert np.abs(frame.astype(int) - expected)[2:-2, 2:-2].max() <= 2


def test_a_frame_beyond_the_edge_repeats_it() -> None:
    photo = np.full((60, 60, 3), 200, dtype=np.uint8)
    photo[:, :5] = 10

    frame = cut_frame(photo, align(FRAME_POINTS - np.array([100, 40])))

    assert frame.shape == (FRAME, FRAME, 3)
    assert (frame[:, :90] == 10).all(), "left of the photo there is only its left edge"


def test_the_patch_keeps_one_to_two_pixels_for_each_of_the_frame() -> None:
    photo = np.zeros((3000, 4000, 3), dtype=np.uint8)

    patch, _, reduction = reduced_patch(photo, align(turned(0.0, 7.7, (300, 500))))

    assert reduction == 7
    assert FRAME <= patch.shape[0] <= 2 * FRAME
