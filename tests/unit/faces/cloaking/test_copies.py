"""Copies of faces: one kind of loss a step, each face by its own generator."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from services.worker.faces.cloaking import copies
from services.worker.faces.cloaking.copies import KINDS, as_shared


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the crops where they are: what is lost then is the copy's doing."""
    monkeypatch.setattr(copies, "move", lambda faces, maps: faces)


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(5 + number) for number in range(count)]


def lost(frames: Tensor, scales: Sequence[float], step: int, strength: float = 1.0) -> list[float]:
    copy = as_shared(frames, scales, generators(len(frames)), strength, step)
    assert copy.shape == frames.shape
    return [float(value) for value in (copy - frames).abs().mean((1, 2, 3))]


@pytest.mark.usefixtures("still")
def test_each_kind_loses_something_else_and_one_nothing(frames: Tensor) -> None:
    scales = [1.0] * len(frames)
    seen = [lost(frames, scales, step)[0] for step in range(KINDS)]
    assert seen[0] == 0
    assert len(set(seen)) == KINDS
    assert max(seen) < 0.1
    assert lost(frames, scales, KINDS + 3) == lost(frames, scales, 3)


@pytest.mark.usefixtures("still")
def test_a_reduced_copy_has_no_fine_detail(frames: Tensor) -> None:
    checkers = torch.zeros(1, 3, 160, 160)
    checkers[..., ::2, ::2] = checkers[..., 1::2, 1::2] = 1

    copy = as_shared(checkers, [0.9], generators(1), 1.0, 3)

    assert float(copy[..., 8:-8, 8:-8].std()) < 0.6 * float(checkers.std())
    assert lost(frames[:1], [4.0], 3) == [0], "half of a large face still has all of the frame"
    assert lost(frames[:1], [0.4], 3)[0] > lost(frames[:1], [0.9], 3)[0]


def test_a_face_gets_the_same_copy_in_any_company_and_none_at_no_strength(frames: Tensor) -> None:
    scales = [1.1, 0.7, 2.0]
    for step in range(KINDS):
        together = as_shared(frames, scales, generators(3), 1.0, step)
        alone = as_shared(frames[1:2], scales[1:2], generators(3)[1:2], 1.0, step)
        assert torch.allclose(together[1:2], alone, atol=1e-5)
        assert torch.equal(as_shared(frames, scales, generators(3), 0.0, step), frames)


def test_gradients_pass_every_kind(frames: Tensor) -> None:
    for step in range(KINDS):
        face = frames[:1].clone().requires_grad_()
        as_shared(face, [0.9], generators(1), 1.0, step).square().sum().backward()
        assert face.grad is not None
        assert float(face.grad.abs().mean()) > 0.05
