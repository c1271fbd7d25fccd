"""The patch denoiser takes spoiled pixels back and leaves clean pictures alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data
from skimage.transform import resize
from torch import Tensor

from services.worker.defenses.patch_denoiser import (
    PatchDenoiser,
    load_denoiser,
    save_denoiser,
    spoil,
    train_denoiser,
)

Maker = Callable[..., Tensor]


def test_repairs_spoiled_pixels_and_keeps_a_clean_photo() -> None:
    small = resize(data.astronaut(), (128, 128), anti_aliasing=True)
    clean = torch.from_numpy(np.rint(small * 255) / 255).float().permute(2, 0, 1)[None]
    spoiled = clean.clone()
    spoiled[:, :, 5::16, 9::16] = torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1)
    denoiser = PatchDenoiser()
    error = (denoiser.apply(spoiled) - clean).abs()
    assert (
        error[:, :, 5::16, 9::16].mean() < 0.15 * (spoiled - clean)[:, :, 5::16, 9::16].abs().mean()
    )
    assert error.mean() < 0.8 * (spoiled - clean).abs().mean()
    assert (denoiser.apply(clean) == clean).float().mean() > 0.98


def test_only_whole_patches_around_a_finding_change(pictures: Maker) -> None:
    image = pictures(1, 30)
    image[0, :, 13, 6] = torch.tensor([0.0, 1.0, 0.0])
    changed = (PatchDenoiser(patch=4).apply(image) != image).any(1)[0].nonzero()
    assert [13, 6] in changed.tolist()
    assert {(row // 4, column // 4) for row, column in changed.tolist()} == {(3, 1)}


def test_training_learns_repeats_itself_and_is_stored(tmp_path: Path, pictures: Maker) -> None:
    images = pictures(16, 16)
    calls: list[tuple[int, int, str]] = []
    first = train_denoiser(images, steps=40, batch=8, progress=lambda *call: calls.append(call))
    second = train_denoiser(images, steps=40, batch=8)
    spoiled = spoil(images, torch.Generator().manual_seed(0))
    assert torch.equal(first(spoiled), second(spoiled))
    assert [call[:2] for call in calls] == [(step, 40) for step in range(1, 41)]
    save_denoiser(first, tmp_path / "weights.safetensors")
    loaded = load_denoiser(tmp_path / "weights.safetensors")
    torch.testing.assert_close(loaded(spoiled), first(spoiled), atol=5e-3, rtol=0)


def test_spoiling_sets_at_most_eight_pixels(pictures: Maker) -> None:
    clean = pictures(50, 16)
    changed = (spoil(clean, torch.Generator().manual_seed(0)) != clean).any(1).flatten(1).sum(1)
    assert changed.max() <= 8
    assert changed.min() == 0
    assert changed.float().mean() > 3


def test_bad_training_and_missing_weights_are_refused(tmp_path: Path, pictures: Maker) -> None:
    with pytest.raises(ValueError, match="at least one step"):
        train_denoiser(pictures(), steps=0)
    with pytest.raises(FileNotFoundError):
        load_denoiser(tmp_path / "none.safetensors")
