"""Differentiable JPEG and blur against Pillow and OpenCV."""

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from services.worker.faces.cloaking.changes import blur, jpeg, move, quantization, random_maps

FACE = np.ascontiguousarray(data.astronaut()[0:208, 120:328])


def as_tensor(pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def coded_by_pillow(quality: int, subsampling: int) -> torch.Tensor:
    buffer = io.BytesIO()
    Image.fromarray(FACE).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return as_tensor(np.array(Image.open(buffer)))


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("subsample", [True, False])
def test_jpeg_is_what_libjpeg_makes(quality: int, subsample: bool) -> None:
    ours = jpeg(as_tensor(FACE), quality, subsample=subsample)

    theirs = coded_by_pillow(quality, 2 if subsample else 0)

    plain = (as_tensor(FACE) - theirs).abs().mean()
    assert (ours - theirs).abs().mean() < 0.004
    assert (ours - theirs).abs().mean() < 0.7 * plain  # whose pixels are rounded once more


def test_tables_are_those_that_pillow_writes() -> None:
    buffer = io.BytesIO()
    Image.fromarray(FACE).save(buffer, "JPEG", quality=80)
    tables = Image.open(buffer).quantization  # type: ignore[attr-defined]

    ours = quantization(80)

    assert ours[0].flatten().tolist() == list(tables[0])
    assert ours[1].flatten().tolist() == list(tables[1])


def test_gradients_pass_the_rounding() -> None:
    image = as_tensor(FACE).requires_grad_()

    jpeg(image, 75).sum().backward()

    assert image.grad is not None
    assert float(image.grad.abs().mean()) > 0.1


@pytest.mark.parametrize("quality", [0, 101])
def test_a_quality_out_of_range_is_refused(quality: int) -> None:
    with pytest.raises(ValueError, match="quality"):
        quantization(quality)


def test_blur_is_opencvs_and_each_image_has_its_own() -> None:
    images = as_tensor(FACE).repeat(3, 1, 1, 1)

    blurred = blur(images, [0.0, 1.0, 2.5])

    assert torch.allclose(blurred[0], images[0], atol=1e-6)
    for number, sigma in ((1, 1.0), (2, 2.5)):
        expected = cv2.GaussianBlur(
            FACE.astype(np.float32) / 255, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE
        )
        ours = blurred[number].permute(1, 2, 0).numpy()
        assert np.abs(ours - expected).max() < 0.02


def test_maps_are_small_and_come_from_each_ones_own_generator() -> None:
    def generators(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    both, alone = random_maps(generators(1, 2), 1.0), random_maps(generators(2), 1.0)

    assert torch.equal(both[1], alone[0])
    assert torch.equal(random_maps(generators(1), 0.0)[0], torch.eye(2, 3))
    many = random_maps(generators(*range(200)), 1.0)
    mirrored = many[:, 0, 0] < 0
    assert 60 < int(mirrored.sum()) < 140
    scale = (many[:, 0, 0].square() + many[:, 0, 1].square()).sqrt()
    assert float(scale.min()) > 0.9
    assert float(scale.max()) < 1.1


def test_the_identity_moves_nothing() -> None:
    image = as_tensor(FACE)

    assert torch.allclose(move(image, torch.eye(2, 3)[None]), image, atol=1e-4)
