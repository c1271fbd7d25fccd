"""Where designs land on faces: against SciPy's spline, OpenCV's checkerboard and differences."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy.interpolate import RBFInterpolator

from services.worker.faces.alignment import FRAME, FRAME_POINTS
from services.worker.masks.outlines import AREA, SHAPES, outline, plain
from services.worker.masks.projector import (
    Wearing,
    _places,
    fit,
    put_on,
    random_wearing,
    still,
)

RNG = np.random.default_rng(0)
POINTS = FRAME_POINTS + RNG.normal(0, 4, (3, 5, 2))


def places_of(fits: torch.Tensor, side: int) -> torch.Tensor:
    """Return where the pixels of the inner part of faces' frames lie on the frontal face."""
    pixels = torch.arange(side, dtype=torch.float32)
    return _places(fits, side, pixels, pixels)


def test_the_spline_is_scipys() -> None:
    places = places_of(fit(POINTS), 112).numpy()

    rows, columns = np.mgrid[24:136, 24:136]
    pixels = np.stack([columns.ravel(), rows.ravel()], 1).astype(float)
    for number, points in enumerate(POINTS):
        spline = RBFInterpolator(points, FRAME_POINTS, kernel="thin_plate_spline")
        np.testing.assert_allclose(places[number].reshape(-1, 2), spline(pixels), atol=2e-2)


def test_a_frontal_face_moves_nothing() -> None:
    places = places_of(fit(FRAME_POINTS[None]), FRAME)[0]

    rows, columns = torch.meshgrid(torch.arange(160.0), torch.arange(160.0), indexing="ij")
    assert torch.allclose(places, torch.stack([columns, rows], 2), atol=1e-2)


def test_points_on_a_line_are_no_face() -> None:
    line = np.stack([np.arange(5.0) * 9, np.arange(5.0) * 4], 1)
    with pytest.raises(ValueError, match="line"):
        fit(np.stack([FRAME_POINTS, line]))


def test_a_checkerboard_lands_where_the_landmarks_say() -> None:
    squares = 8
    board = np.kron(np.indices((squares, squares)).sum(0) % 2, np.ones((16, 16)))
    design = torch.from_numpy(board).float().expand(1, 3, -1, -1)
    turn = cv2.getRotationMatrix2D((80, 110), 9, 1.08)
    points = FRAME_POINTS @ turn[:, :2].T + turn[:, 2]

    worn = put_on(torch.full((1, 3, FRAME, FRAME), 0.5), design, fit(points[None]), shade=0.0)[
        0, 0
    ].numpy()

    left, top, right, bottom = AREA
    step = np.array([(right - left) / squares, (bottom - top) / squares])
    for row in range(3, 6):
        for column in range(3, 6):
            # The middle of a square, in the frontal frame, then turned as the face is.
            middle = np.array([left, top]) + (np.array([column, row]) + 0.5) * step
            x, y = (turn[:, :2] @ middle + turn[:, 2]).round().astype(int)
            assert worn[y, x] == pytest.approx((row + column) % 2, abs=0.02)
    corner = np.array([left, top]) + 4 * step
    x, y = turn[:, :2] @ corner + turn[:, 2]
    found = cv2.cornerSubPix(
        (255 * worn).astype(np.uint8),
        np.array([[[x + 1, y - 1]]], dtype=np.float32),
        (4, 4),
        (-1, -1),
        (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 50, 1e-3),
    )
    assert np.hypot(*(found[0, 0] - (x, y))) < 0.5


def test_the_gradient_is_that_of_finite_differences() -> None:
    faces = torch.rand(1, 3, 112, 112, dtype=torch.float64)
    fits = fit(POINTS[:1])
    weights = torch.rand(1, 3, 112, 112, dtype=torch.float64)
    design = (0.3 + 0.4 * torch.rand(1, 3, 16, 16, dtype=torch.float64)).requires_grad_()

    def value(one: torch.Tensor) -> torch.Tensor:
        return (put_on(faces, one, fits) * weights).sum()

    value(design).backward()
    assert design.grad is not None
    for place in ((0, 0, 5, 7), (0, 1, 8, 8), (0, 2, 11, 4)):
        step = torch.zeros_like(design)
        step[place] = 1e-5
        with torch.no_grad():
            difference = (value(design + step) - value(design - step)) / 2e-5
        assert float(design.grad[place]) == pytest.approx(float(difference), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mask_covers_nose_and_mouth_and_not_the_eyes(shape: str) -> None:
    cover = outline(shape)[0, 0]  # type: ignore[arg-type]

    for number, (x, y) in enumerate(FRAME_POINTS.round().astype(int)):
        assert float(cover[y, x]) == (0 if number < 2 else 1)
    area = float(cover.sum())
    assert 2500 < area < 6000
    left, top, right, bottom = (round(v) for v in AREA)
    outside = cover.clone()
    outside[top - 1 : bottom + 1, left - 1 : right + 1] = 0
    assert not outside.any()


def test_outside_the_mask_nothing_changes_and_of_a_face_the_inner_part_is_the_same() -> None:
    faces = torch.rand(3, 3, FRAME, FRAME)
    designs = torch.rand(3, 3, 64, 64)

    worn = put_on(faces, designs, fit(POINTS), shade=0.0)
    inner = put_on(faces[..., 24:136, 24:136], designs, fit(POINTS), shade=0.0)

    assert torch.equal(worn[:, :, :60], faces[:, :, :60])
    assert torch.allclose(worn[..., 24:136, 24:136], inner, atol=1e-4)


def test_each_face_of_a_batch_is_that_of_a_batch_of_its_own() -> None:
    """Where masks are looked for depends on all faces of a batch; what is put on does not."""
    turned = cv2.getRotationMatrix2D((80, 80), 35, 0.6)
    points = np.stack([FRAME_POINTS, FRAME_POINTS @ turned[:, :2].T + turned[:, 2], POINTS[2]])
    faces, designs = torch.rand(3, 3, FRAME, FRAME), torch.rand(3, 3, 64, 64)
    wearing = replace(random_wearing(3, torch.Generator().manual_seed(1)), blur=1.0)

    together = put_on(faces, designs, fit(points), wearing=wearing)

    for number in range(3):
        one = slice(number, number + 1)
        parts = {
            name: value[one] if isinstance(value, torch.Tensor) else value
            for name, value in vars(wearing).items()
        }
        alone = put_on(faces[one], designs[one], fit(points[one]), wearing=Wearing(**parts))
        assert torch.allclose(together[one], alone, atol=1e-4)
        assert float((together[number] - faces[number]).abs().max()) > 0.1


def test_a_mask_outside_of_the_frame_changes_nothing() -> None:
    faces = torch.rand(1, 3, 112, 112)
    away = replace(still(1), shift=torch.tensor([[0.0, 400.0]]))

    assert torch.equal(
        put_on(faces, torch.rand(1, 3, 8, 8), fit(FRAME_POINTS[None]), wearing=away), faces
    )


def test_the_mask_is_lit_like_the_face() -> None:
    face = torch.full((1, 3, FRAME, FRAME), 0.3)
    face[..., 80:] = 0.7

    worn = put_on(face, plain((0.5, 0.5, 0.5)), fit(FRAME_POINTS[None]))[0, 0]

    assert float(worn[115, 60]) < 0.42
    assert float(worn[115, 100]) > 0.55


def test_wearing_moves_the_mask_and_is_seeded() -> None:
    faces, fits = torch.zeros(1, 3, FRAME, FRAME), fit(FRAME_POINTS[None])
    moved = still(1)
    moved = Wearing(
        moved.turn, moved.scale, torch.tensor([[6.0, 0.0]]), moved.contrast, moved.brightness
    )

    here = put_on(faces, plain((1, 1, 1)), fits, shade=0.0)
    there = put_on(faces, plain((1, 1, 1)), fits, shade=0.0, wearing=moved)

    assert torch.allclose(there[..., 6:], here[..., :-6], atol=1e-3)
    first, again = (random_wearing(50, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.turn, again.turn)
    assert float(first.turn.abs().max()) <= np.pi / 36
    assert float((first.scale - 1).abs().max()) <= 0.05
    assert float(first.contrast.min()) >= 0.8


def test_numbers_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="2 designs"):
        put_on(torch.rand(3, 3, 112, 112), torch.rand(2, 3, 8, 8), fit(POINTS))
    with pytest.raises(ValueError, match="unknown shape"):
        outline("scarf")  # type: ignore[arg-type]
