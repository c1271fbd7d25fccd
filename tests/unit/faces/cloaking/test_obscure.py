"""Faces hidden from people: what is gone, what stays, and what sharpening brings back."""

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data
from skimage.restoration import richardson_lucy

from services.worker.faces.alignment import Alignment
from services.worker.faces.cloaking.obscure import BOX, CELLS, Mode, obscure

PHOTO: NDArray[np.uint8] = data.astronaut()
FACE = Alignment(np.array([[1.0, 0.0, -145.0], [0.0, 1.0, -30.0]]))  # its frame at (145, 30)
MODES: tuple[Mode, ...] = ("blur", "pixelate", "box")


def inner(photo: NDArray[np.uint8]) -> NDArray[np.float64]:
    return photo[60:170, 185:265].astype(np.float64)


@pytest.mark.parametrize("mode", MODES)
def test_only_the_face_changes(mode: Mode) -> None:
    hidden = obscure(PHOTO, [FACE], mode, 8)

    moved = (hidden != PHOTO).any(2)
    assert moved[60:170, 185:265].mean() > 0.9
    assert not moved[:30].any()
    assert not moved[195:].any()
    assert not moved[:, :145].any()
    assert not moved[:, 305:].any()
    assert moved[30:190, 145:305].mean() < 0.85, "the corners of its frame stay"


def test_a_box_leaves_nothing() -> None:
    assert (inner(obscure(PHOTO, [FACE], "box", 8)) == BOX).all()


@pytest.mark.parametrize("cells", CELLS)
def test_squares_are_as_few_as_asked(cells: int) -> None:
    colors = inner(obscure(PHOTO, [FACE], "pixelate", cells)).reshape(-1, 3)
    assert len(np.unique(colors, axis=0)) <= (cells + 2) ** 2


def test_what_lay_between_the_cells_does_not_come_back() -> None:
    """Two faces that differ within the cells alone are hidden alike: nothing tells them apart."""
    other = PHOTO.copy()
    rng = np.random.default_rng(0)
    noise = rng.integers(-40, 41, (10, 10, 1))
    fine = np.tile(noise - round(float(noise.mean())), (40, 40, 3))
    other[30:190, 145:305] = (PHOTO[30:190, 145:305] + fine[:160, :160]).clip(0, 255)

    for mode in MODES:
        one, two = (inner(obscure(photo, [FACE], mode, 8)) for photo in (PHOTO, other))
        apart = np.abs(inner(PHOTO) - inner(other)).mean()
        assert np.abs(one - two).mean() < 0.15 * apart


def test_deconvolution_undoes_a_plain_blur_better() -> None:
    """Richardson (1972) and Lucy (1974), told the kernel: of our blur it finds little."""
    gray = inner(PHOTO).mean(2) / 255
    hidden = inner(obscure(PHOTO, [FACE], "blur", 8)).mean(2) / 255
    reach = np.arange(-30, 31)
    kernel = np.exp(-(reach[:, None] ** 2 + reach[None] ** 2) / (2 * 9.0**2))
    restored = richardson_lucy(hidden, kernel / kernel.sum(), num_iter=30)

    def detail(image: NDArray[np.float64]) -> NDArray[np.float64]:
        fine = image - image.mean()
        return (
            fine[1:-1, 1:-1] * 4
            - fine[:-2, 1:-1]
            - fine[2:, 1:-1]
            - fine[1:-1, :-2]
            - fine[1:-1, 2:]
        )

    likeness = np.corrcoef(detail(gray).ravel(), detail(restored).ravel())[0, 1]
    assert abs(float(likeness)) < 0.2


def test_a_face_outside_the_photo_changes_nothing_and_no_cells_are_refused() -> None:
    away = Alignment(np.array([[1.0, 0.0, 3000.0], [0.0, 1.0, 0.0]]))
    assert np.array_equal(obscure(PHOTO, [away], "blur", 8), PHOTO)
    with pytest.raises(ValueError, match="at least one cell"):
        obscure(PHOTO, [FACE], "blur", 0)
