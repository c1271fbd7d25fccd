"""Filters against SciPy, scikit-image, OpenCV and closed forms."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import median_filter
from skimage.restoration import denoise_tv_chambolle
from torch import Tensor

from services.worker.defenses.filters import BitDepth, Jpeg, MedianFilter, NonLocalMeans
from services.worker.defenses.pixels import from_bytes, to_bytes
from services.worker.defenses.total_variation import TotalVariation, denoise

Maker = Callable[..., Tensor]


def noise(count: int = 2, height: int = 13, width: int = 17) -> Tensor:
    values = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return from_bytes(values, torch.empty(0))


@pytest.mark.parametrize(("size", "mode"), [(2, "reflect"), (3, "nearest"), (5, "nearest")])
def test_median_is_that_of_scipy(size: int, mode: str) -> None:
    images = noise()
    expected = median_filter(to_bytes(images), size=(1, size, size, 1), mode=mode)
    np.testing.assert_array_equal(to_bytes(MedianFilter(size=size).apply(images)), expected)


@pytest.mark.parametrize("bits", range(1, 9))
def test_bit_depth_rounds_to_the_nearest_level(bits: int) -> None:
    ramp = from_bytes(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3), noise())
    out = BitDepth(bits=bits).apply(ramp)
    levels = 2**bits - 1
    assert len(out.unique()) == 2**bits
    # The nearest level, itself on the 8-bit grid.
    assert (out - ramp).abs().max() <= 0.5 / levels + 0.5 / 255 + 1e-6
    exact = torch.floor(ramp.double() * levels + 0.5) / levels
    assert (out - exact).abs().max() <= 0.5 / 255 + 1e-6


def test_eight_bits_change_nothing() -> None:
    images = noise()
    assert torch.equal(BitDepth(bits=8).apply(images), images)


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_jpeg_is_that_of_opencv(quality: int, pictures: Maker) -> None:
    images = pictures(2, 48)
    for image, out in zip(
        to_bytes(images), to_bytes(Jpeg(quality=quality).apply(images)), strict=True
    ):
        flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
        encoded = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), flags)[1]
        expected = cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1]
        assert np.abs(out.astype(int) - expected.astype(int)).max() <= 2


@pytest.mark.parametrize(("weight", "iterations"), [(0.02, 1), (0.1, 30), (0.3, 100)])
def test_total_variation_is_that_of_scikit_image(weight: float, iterations: int) -> None:
    images = noise().double()
    for image, out in zip(
        images, denoise(images, weight=weight, iterations=iterations), strict=True
    ):
        expected = denoise_tv_chambolle(
            image.numpy(), weight=weight, eps=0, max_num_iter=iterations, channel_axis=0
        )
        np.testing.assert_allclose(out.numpy(), expected, atol=1e-12)


def test_total_variation_lowers_it(pictures: Maker) -> None:
    images = (pictures() + 0.1 * torch.randn(3, 3, 24, 24, generator=torch.Generator())).clamp(0, 1)

    def variation(images: Tensor) -> float:
        return float(images.diff(dim=2).abs().sum() + images.diff(dim=3).abs().sum())

    assert variation(TotalVariation(weight=0.2).apply(images)) < 0.3 * variation(images)


def test_non_local_means_takes_grain_and_keeps_a_flat_picture() -> None:
    flat = torch.full((1, 3, 24, 24), 102 / 255)
    grainy = from_bytes(
        to_bytes(flat) + np.random.default_rng(0).integers(0, 8, (1, 24, 24, 3), dtype=np.uint8),
        flat,
    )
    smooth = NonLocalMeans(strength=10).apply(grainy)
    assert smooth.std() < 0.5 * grainy.std()
    assert (NonLocalMeans().apply(flat) - flat).abs().max() <= 1.01 / 255


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: MedianFilter(size=4), "median window"),
        (lambda: MedianFilter(size=1), "median window"),
        (lambda: BitDepth(bits=0), "bit depth"),
        (lambda: BitDepth(bits=9), "bit depth"),
        (lambda: Jpeg(quality=0), "JPEG quality"),
        (lambda: NonLocalMeans(search=10), "odd"),
        (lambda: NonLocalMeans(strength=0), "strength"),
        (lambda: TotalVariation(weight=0), "weight"),
        (lambda: TotalVariation(iterations=0), "iteration"),
    ],
)
def test_bad_parameters_are_refused(build: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build()
