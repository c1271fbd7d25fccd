"""Colors: CIELAB as scikit-image has it, and back; gradients everywhere."""

import numpy as np
import torch
from skimage.color import rgb2lab

from services.worker.faces.cloaking.color import color_difference, from_lab, to_lab


def drawn() -> torch.Tensor:
    colors = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    colors[..., 0, :] = 0
    colors[..., 1, :] = 1
    colors[..., 2, :] = 0.02
    return colors


def test_lab_is_that_of_scikit_image() -> None:
    colors = drawn()
    expected = rgb2lab(colors[0].permute(1, 2, 0).double().numpy())
    assert np.abs(to_lab(colors)[0].permute(1, 2, 0).numpy() - expected).max() < 0.02


def test_there_and_back_is_the_same_color() -> None:
    colors = drawn()
    assert torch.allclose(from_lab(to_lab(colors)), colors, atol=2e-4)


def test_gradients_are_finite_for_black_and_white_too() -> None:
    colors = drawn()
    lab = to_lab(colors).requires_grad_()
    from_lab(lab + 1).sum().backward()
    assert lab.grad is not None
    assert bool(torch.isfinite(lab.grad).all())


def test_equal_colors_do_not_differ_and_black_and_white_by_a_hundred() -> None:
    black, white = np.zeros((4, 4, 3), dtype=np.uint8), np.full((4, 4, 3), 255, dtype=np.uint8)
    assert not color_difference(white, white).any()
    assert np.allclose(color_difference(black, white), 100, atol=0.1)


def test_a_step_of_color_shows_more_on_gray_than_on_red() -> None:
    """CIEDE2000 weighs chroma by what is there: white teeth take less than red lips."""

    def step(color: tuple[int, int, int]) -> float:
        first = np.full((2, 2, 3), color, dtype=np.uint8)
        second = first.copy()
        second[..., 1] += 10
        return float(color_difference(first, second).mean())

    assert step((128, 128, 128)) > 1.5 * step((200, 30, 30))
