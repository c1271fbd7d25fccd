"""Augmentation changes pictures within its bounds, and reproducibly."""

import pytest
import torch

from services.worker.training.augment import Augmentation, _grid, augment

NONE = Augmentation(flip=0, rotation=0, zoom=0, shift=0, color=0, erase=0, blur=0)


def pictures(count: int = 8) -> torch.Tensor:
    return torch.rand(count, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def changed(images: torch.Tensor, seed: int = 1, **settings: float) -> torch.Tensor:
    chosen = Augmentation(**{**vars(NONE), **settings})
    return augment(images, chosen, torch.Generator().manual_seed(seed))


def test_nothing_asked_is_nothing_changed() -> None:
    torch.testing.assert_close(changed(pictures()), pictures(), atol=1e-5, rtol=0)


def test_a_certain_flip_is_the_mirror_image() -> None:
    torch.testing.assert_close(changed(pictures(), flip=1.0), pictures().flip(3), atol=1e-5, rtol=0)


def test_keeps_shape_and_range_and_follows_the_generator() -> None:
    images, everything = pictures(), Augmentation(erase=1, blur=1, rotation=30)
    first, again, other = (
        augment(images, everything, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert first.shape == images.shape
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(images, pictures())


def test_rotation_stays_within_its_angle() -> None:
    # A bright spot to the right of the middle must not leave its cone.
    images = torch.zeros(200, 3, 65, 65)
    images[:, :, 32, 56] = 1
    turned = changed(images, rotation=30.0).mean(1)
    for picture in turned:
        row, column = divmod(int(picture.argmax()), 65)
        angle = torch.atan2(torch.tensor(row - 32.0), torch.tensor(column - 32.0)).rad2deg()
        assert abs(float(angle)) <= 32


def test_zoom_stays_within_its_share_either_way() -> None:
    # A bright spot 20 px from the middle moves to and fro along its ray, and never off it.
    images = torch.zeros(200, 3, 65, 65)
    images[:, :, 32, 52] = 1
    places = changed(images, zoom=0.1).mean(1).flatten(1).argmax(1)
    rows, columns = places // 65, places % 65
    assert set(rows.tolist()) == {32}
    reach = (columns - 32) / 20
    assert 1 / 1.1 - 0.03 <= float(reach.min()) < 0.95
    assert 1.05 < float(reach.max()) <= 1 / 0.9 + 0.03


def test_erased_rectangles_have_one_color_and_a_bounded_size() -> None:
    images = pictures(64)
    erased = changed(images, erase=1.0)
    for before, after in zip(images, erased, strict=True):
        hit = ((after - before).abs() > 1e-4).any(0)
        assert float(hit.float().mean()) <= 0.4**2
        if hit.any():
            assert float(after[:, hit].std(dim=1).max()) < 1e-3


@pytest.mark.parametrize("amount", [0.1, 0.3])
def test_color_changes_a_gray_picture_to_another_gray_only(amount: float) -> None:
    gray = torch.full((32, 3, 8, 8), 0.5)
    colored = changed(gray, color=amount)
    assert float((colored - colored.mean(1, keepdim=True)).abs().max()) < 1e-6
    assert float((colored - 0.5).abs().max()) <= 0.5 * amount + 1e-6


def test_the_grid_is_that_of_pytorch() -> None:
    rows = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(2))
    expected = torch.nn.functional.affine_grid(rows, [5, 3, 7, 11], align_corners=False)
    torch.testing.assert_close(_grid(rows, 7, 11), expected, atol=1e-5, rtol=1e-5)


def test_bytes_become_floats_and_large_batches_are_whole() -> None:
    levels = (pictures(300) * 255).round().byte()
    floats = changed(levels)
    torch.testing.assert_close(floats, levels.float() / 255, atol=1e-5, rtol=0)
    many = torch.full((3, 3, 300, 300), 0.5)
    assert changed(many, color=0.3).unique().numel() > 2
