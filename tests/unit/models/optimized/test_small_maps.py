"""Convolutions of small maps as matrix products: the same function."""

import pytest
import torch
from torch import Tensor, nn

from services.worker.attacks.oracle import Oracle
from services.worker.models.architectures import build
from services.worker.models.base import Classifier
from services.worker.models.optimized.small_maps import ProductConv, small_maps_as_products


def resnet() -> Classifier:
    torch.manual_seed(3)
    model = build("resnet34_7x7", classes=("a", "b", "c"), input_size=32)
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def images(count: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.rand(count, 3, 32, 32, generator=generator)


def products(model: nn.Module) -> list[ProductConv]:
    return [module for module in model.modules() if isinstance(module, ProductConv)]


@pytest.mark.parametrize(
    ("convolution", "size"),
    [
        (nn.Conv2d(6, 4, 3, padding=1), (2, 2)),
        (nn.Conv2d(6, 4, 3, padding=1, stride=2, bias=False), (2, 2)),
        (nn.Conv2d(6, 4, 3, padding=1), (1, 1)),
        (nn.Conv2d(6, 4, (5, 3), padding=(2, 1), stride=(2, 1)), (3, 4)),
        (nn.Conv2d(6, 4, 3, padding=2, dilation=2), (2, 3)),
    ],
)
def test_a_product_is_the_convolution(convolution: nn.Conv2d, size: tuple[int, int]) -> None:
    maps = torch.randn(7, 6, *size)
    product = ProductConv(convolution, maps.shape[1:])
    assert torch.allclose(product(maps), convolution(maps), atol=1e-5)


def test_maps_of_another_size_go_through_the_convolution() -> None:
    convolution = nn.Conv2d(3, 4, 3, padding=1)
    product = ProductConv(convolution, torch.Size((3, 2, 2)))
    maps = torch.randn(2, 3, 5, 6)
    assert torch.equal(product(maps), convolution(maps))


def test_a_resnet_at_32_ends_in_products_with_the_same_logits_and_gradients() -> None:
    model, shown = resnet(), images()
    rebuilt = small_maps_as_products(model, shown[:2])
    # Maps of 2x2: eleven in the third stage, one in the fourth; of 1x1: five in the fourth.
    assert len(products(rebuilt)) == 11 + 1 + 5
    assert not products(model)
    gradients = []
    for one in (model, rebuilt):
        asked = shown.clone().requires_grad_()
        logits = one(asked)
        gradients.append(torch.autograd.grad(logits[:, 0].sum(), asked)[0])
        assert torch.allclose(logits, model(shown), atol=1e-5)
    difference = gradients[1] - gradients[0]
    assert float(difference.norm()) < 0.01 * float(gradients[0].norm())


def test_what_is_large_or_not_a_plain_convolution_is_left_alone() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.large = nn.Conv2d(3, 8, 3, padding=1)
            self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=8)
            self.mirrored = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
            self.same = nn.Conv2d(8, 8, 3, padding="same")
            self.heavy = nn.Conv2d(8, 2**19, 3, padding=1)

        def forward(self, shown: Tensor) -> Tensor:
            maps = nn.functional.adaptive_avg_pool2d(self.large(shown), 2)
            maps = self.same(self.mirrored(self.grouped(maps)))
            return self.heavy(maps).mean((2, 3))[:, :2]

    model = Mixed().eval()
    assert small_maps_as_products(model, images(2)) is model


def test_a_model_that_answers_otherwise_when_rebuilt_is_left_alone() -> None:
    class Peeking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.small = nn.Conv2d(3, 2, 3, padding=1)

        def forward(self, shown: Tensor) -> Tensor:
            maps = self.small(nn.functional.adaptive_avg_pool2d(shown, 1))
            return maps.flatten(1) * (2.0 if isinstance(self.small, nn.Conv2d) else 1.0)

    model = Peeking().eval()
    assert small_maps_as_products(model, images(2)) is model


def test_an_oracle_asks_the_products_and_confirms_with_the_model_itself() -> None:
    model, shown = resnet(), images()
    expected = model(shown)
    for bf16, tolerance in ((False, 1e-4), (True, 0.02)):
        oracle = Oracle(model, shown, search_bf16=bf16)
        size = float(expected.abs().max())
        found = oracle.prepared_logits(oracle.prepare(255 * shown))
        assert torch.allclose(found, expected, atol=tolerance * size)
        assert torch.allclose(oracle.logits(shown), expected, atol=tolerance * size)
        assert torch.equal(oracle.confirm(shown), expected)
        gradient = oracle.gradient(255 * shown, lambda logits, part: logits[:, 1])[1]
        asked = shown.clone().requires_grad_()
        (reference,) = torch.autograd.grad(model(asked)[:, 1].sum(), asked)
        # A rounding error can flip a ReLU near zero.
        allowed = 0.4 if bf16 else 0.01
        assert float((gradient - reference).norm()) < allowed * float(reference.norm())
