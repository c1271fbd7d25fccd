"""Lean squeeze-and-excitation computes what torchvision's does."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from services.worker.attacks.oracle import Oracle
from services.worker.models.base import Classifier
from services.worker.models.optimized.squeeze_excitation import (
    LeanSqueezeExcitation,
    with_lean_squeezes,
)


def block(channels: int = 6) -> SqueezeExcitation:
    torch.manual_seed(0)
    made = SqueezeExcitation(channels, 3, activation=nn.ReLU, scale_activation=nn.Hardsigmoid)
    return made.eval().requires_grad_(False)


def classifier() -> Classifier:
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.Hardswish(),
        block(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 2),
    )
    made = Classifier(network, architecture="toy", classes=("a", "b"), input_size=(9, 7))
    return made.eval().requires_grad_(False)


def gradient_of(network: nn.Module, maps: Tensor, along: Tensor) -> Tensor:
    asked = maps.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((network(asked) * along).sum(), asked)
    return gradient


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_answers_and_gradients_are_those_of_the_block(layout: torch.memory_format) -> None:
    plain, maps = block(), torch.randn(5, 6, 9, 7).contiguous(memory_format=layout)
    lean, along = LeanSqueezeExcitation(plain), torch.randn(5, 6, 9, 7)
    assert torch.allclose(lean(maps.clone().requires_grad_()), plain(maps), atol=1e-6)
    with torch.inference_mode():
        assert torch.allclose(lean(maps), plain(maps), atol=1e-6)
    expected = gradient_of(plain, maps, along)
    assert torch.allclose(gradient_of(lean, maps, along), expected, atol=1e-6)
    assert expected.abs().max() > 0.1


def test_the_gradient_is_that_of_finite_differences() -> None:
    lean = LeanSqueezeExcitation(block(4)).double()
    maps = torch.randn(2, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lean, maps)


def test_both_gradients_can_be_taken_of_one_answer() -> None:
    lean, maps = LeanSqueezeExcitation(block()), torch.randn(2, 6, 4, 4, requires_grad=True)
    answer = lean(maps)
    first = torch.autograd.grad(answer.sum(), maps, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(answer.sum(), maps)[0], first)


def test_a_model_is_copied_and_left_as_it_was() -> None:
    model = classifier()
    rebuilt = with_lean_squeezes(model, torch.rand(2, 3, 9, 7))
    assert isinstance(model.network, nn.Sequential)
    assert isinstance(model.network[3], SqueezeExcitation)
    assert any(isinstance(part, LeanSqueezeExcitation) for part in rebuilt.modules())
    assert not any(part.training for part in rebuilt.modules())
    without = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()).eval()
    assert with_lean_squeezes(without, torch.rand(2, 3, 9, 7)) is without


def test_a_block_that_answers_otherwise_when_rebuilt_is_left_alone() -> None:
    model = classifier()
    assert isinstance(model.network, nn.Sequential)
    model.network[3].register_forward_hook(lambda module, shown, made: 2 * made)
    assert with_lean_squeezes(model, torch.rand(2, 3, 9, 7)) is model


@pytest.mark.parametrize("bf16", [False, True])
def test_an_oracle_asks_it_for_gradients(bf16: bool) -> None:
    model, levels = classifier(), torch.randint(0, 256, (4, 3, 9, 7)).float()
    oracle = Oracle(model, levels / 255, search_bf16=bf16)
    logits, gradient = oracle.gradient(levels, lambda answer, part: answer[:, 1])
    expected = gradient_of(model, levels / 255, torch.tensor([0.0, 1.0]))
    tolerance = 0.05 if bf16 else 1e-4
    assert torch.allclose(logits, model(levels / 255), atol=tolerance)
    assert float((gradient - expected).norm()) < tolerance * float(expected.norm())
