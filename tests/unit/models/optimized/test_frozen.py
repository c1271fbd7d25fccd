"""A network rebuilt computes the same, and so do its gradients."""

import pytest
import torch
from torch import nn

from services.worker.models.optimized.frozen import FrozenPReLU, quickened
from services.worker.models.recognizers import EMBEDDERS, Recognizer, build_recognizer, frozen


def trained_looking(architecture: str) -> Recognizer:
    """Return a recognizer with statistics and slopes that are not those of a fresh one."""
    torch.manual_seed(0)
    recognizer = build_recognizer(architecture, identifier=architecture)
    for part in recognizer.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, 0, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(part.running_var, 0.5, 2)  # type: ignore[arg-type]
            nn.init.normal_(part.bias, 0, 0.1)
        elif isinstance(part, nn.PReLU):
            nn.init.uniform_(part.weight, -0.5, 0.9)
    return frozen(recognizer)


@pytest.mark.parametrize("architecture", [name for name in EMBEDDERS if name != "facenet"])
def test_outputs_and_gradients_are_the_same(architecture: str) -> None:
    recognizer = trained_looking(architecture)
    quick = quickened(recognizer)
    aim = torch.randn(128)
    found = []
    for one in (recognizer, quick):
        faces = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1))
        faces.requires_grad_()
        embeddings = one(faces)
        (embeddings @ aim).sum().backward()
        assert faces.grad is not None
        found.append((embeddings.detach(), faces.grad))

    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    gradient, again = found[0][1], found[1][1]
    # As vectors: a value that rounding takes across a rectifier's kink changes single pixels.
    assert float((gradient - again).norm()) < 1e-2 * float(gradient.norm())
    folded = sum(isinstance(part, nn.BatchNorm2d) for part in quick.modules())
    normalized = sum(isinstance(part, nn.BatchNorm2d) for part in recognizer.modules())
    assert folded < normalized or normalized == 0  # dlib's come folded already
    assert not any(isinstance(part, nn.PReLU) for part in quick.modules())
    assert isinstance(quick, Recognizer)
    assert quick.identifier == architecture


def test_the_original_is_left_as_it_was() -> None:
    recognizer = trained_looking("residual_embedder")
    before = {name: value.clone() for name, value in recognizer.state_dict().items()}
    quickened(recognizer)
    after = recognizer.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_convolution_outside_a_sequence_is_not_folded() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.normalization = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            made = self.convolution(maps)
            out: torch.Tensor = self.normalization(made) + made
            return out

    branches = Branches().eval()
    nn.init.uniform_(branches.normalization.running_var, 2, 3)  # type: ignore[arg-type]
    maps = torch.rand(1, 3, 5, 5)
    assert torch.allclose(quickened(branches)(maps), branches(maps), atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3, 3)])
def test_slopes_are_those_of_prelu(shape: tuple[int, ...]) -> None:
    prelu = nn.PReLU(4)
    nn.init.normal_(prelu.weight)
    values = torch.randn(shape)
    assert torch.allclose(FrozenPReLU(prelu.weight)(values), prelu(values), atol=1e-6)


def test_what_learns_is_refused() -> None:
    with pytest.raises(ValueError, match="eval"):
        quickened(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
