"""Verification looks at the delivered pixels, and at nothing else."""

import io
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from skimage.metrics import peak_signal_noise_ratio

from services.worker.faces.alignment import FRAME_POINTS, align
from services.worker.faces.cloaking.verify import (
    compare,
    find_again,
    quality,
    see,
    ssim,
    through_jpeg,
)
from services.worker.faces.crops import Pixels
from services.worker.faces.face import Face
from services.worker.models.recognizers import Recognizer

PHOTO = np.ascontiguousarray(data.astronaut())
PLACE = align(FRAME_POINTS * 1.1 + (120, 10))
Make = Callable[..., Recognizer]


def noisy(amount: int) -> Pixels:
    rng = np.random.default_rng(0)
    noise = rng.integers(-amount, amount + 1, PHOTO.shape)
    return np.clip(PHOTO + noise, 0, 255).astype(np.uint8)


def test_an_unchanged_photo_is_itself_and_a_changed_one_is_less(recognizer_of: Make) -> None:
    recognizer = recognizer_of()

    (same,) = compare(see(PHOTO, PHOTO, [PLACE], [PLACE]), recognizer)
    (changed,) = compare(see(PHOTO, 255 - PHOTO, [PLACE], [PLACE]), recognizer)

    assert same.after == pytest.approx(1, abs=1e-5)
    assert same.jpeg > 0.98
    assert same.half > 0.98
    assert same.blur > 0.97
    assert changed.after < same.after
    assert same.worst == max(same.after, same.jpeg, same.half, same.blur)


def test_the_half_size_copy_is_cut_at_the_same_place(recognizer_of: Make) -> None:
    seen = see(PHOTO, PHOTO, [PLACE], [PLACE])[0]

    assert float((seen.frames[3] - seen.frames[0]).abs().mean()) < 0.03
    shifted = torch.roll(seen.frames[3], 1, 2)
    assert (seen.frames[3] - seen.frames[0]).abs().mean() < (shifted - seen.frames[0]).abs().mean()


def test_a_copy_loses_something_even_of_a_photo_that_was_coded_alike_before() -> None:
    buffer = io.BytesIO()
    Image.fromarray(noisy(12)).save(buffer, "JPEG", quality=75)
    once = np.asarray(Image.open(buffer).convert("RGB"))
    buffer = io.BytesIO()
    Image.fromarray(once).save(buffer, "JPEG", quality=75)
    aligned = np.asarray(Image.open(buffer).convert("RGB"))

    copy = through_jpeg(once)

    def lost(photo: Pixels) -> float:
        return float(np.abs(photo.astype(np.int16) - once).mean())

    assert copy.shape == once.shape
    assert lost(copy) > 2 * lost(aligned), "the same blocks again would change next to nothing"
    assert lost(copy) < 0.25 * lost(np.roll(once, 5, (0, 1))), "it lies where it lay"


def test_faces_are_matched_by_their_place() -> None:
    points = np.asarray(FRAME_POINTS, dtype=np.float32)
    found = [Face((10, 10, 60, 60), 0.9, points), Face((200, 10, 260, 70), 0.9, points + 100)]

    again = find_again(PHOTO, [(205, 12, 262, 70), (400, 400, 450, 450)], lambda _: found)

    assert again[0] is not None
    np.testing.assert_allclose(again[0].to_frame, align(points + 100).to_frame)
    assert again[1] is None


def test_a_face_not_found_again_is_looked_at_where_it_was(recognizer_of: Make) -> None:
    (seen,) = see(PHOTO, PHOTO, [PLACE], [None])

    assert not seen.found_again
    assert compare([seen], recognizer_of())[0].after == pytest.approx(1, abs=1e-5)


def test_quality_is_of_the_region_only() -> None:
    delivered = PHOTO.copy()
    delivered[:100] = noisy(8)[:100]

    inside, outside = (
        quality(PHOTO, delivered, box) for box in ((0, 0, 512, 100), (0, 200, 9, 300))
    )

    assert inside.psnr == pytest.approx(peak_signal_noise_ratio(PHOTO[:100], delivered[:100]))
    assert inside.largest == 8
    assert inside.ssim < 0.95
    assert outside.psnr is None
    assert outside.ssim == 1
    assert quality(PHOTO, delivered, (5, 5, 5, 9)).ssim == 1


def test_ssim_falls_with_noise_and_takes_small_regions() -> None:
    values = [ssim(PHOTO[:200, :200], noisy(amount)[:200, :200]) for amount in (0, 4, 12)]

    assert values == sorted(values, reverse=True)
    assert values[0] == 1
    assert 0 < ssim(PHOTO[:9, :9], noisy(4)[:9, :9]) < 1
    assert ssim(PHOTO[:3, :3], noisy(4)[:3, :3]) == 0
    blurred = np.asarray(cv2.GaussianBlur(PHOTO, (0, 0), 4), dtype=np.uint8)
    assert ssim(PHOTO, blurred) < ssim(PHOTO, noisy(2))
