"""A softened network says the same; its gradients come along the shortcuts."""

import pytest
import torch
from torch import Tensor

from services.worker.models.optimized.frozen import quickened
from services.worker.models.recognizers import EMBEDDERS, Recognizer, build_recognizer, frozen
from services.worker.models.skip_gradient import Softened, soften


def gradient(recognizer: Recognizer) -> tuple[Tensor, Tensor]:
    """Return embeddings of one face, and the gradient of their sum."""
    side = recognizer.input_size[0]
    faces = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    faces.requires_grad_()
    embeddings = recognizer(faces)
    embeddings.sum().backward()
    assert faces.grad is not None
    return embeddings.detach(), faces.grad


@pytest.mark.parametrize("architecture", sorted(EMBEDDERS))
def test_outputs_stay_and_gradients_turn(architecture: str) -> None:
    torch.manual_seed(0)
    recognizer = frozen(build_recognizer(architecture, identifier=architecture))
    soft, whole = quickened(recognizer), quickened(recognizer)
    soften(soft, 0.5)
    soften(whole, 1.0)

    (before, along), (after, turned) = gradient(recognizer), gradient(soft)

    assert torch.allclose(before, after, atol=1e-5)
    assert float((along - turned).norm()) > 0.05 * float(along.norm())
    assert any(isinstance(part, Softened) for part in soft.modules())
    assert not any(isinstance(part, Softened) for part in whole.modules())


def test_a_share_of_the_branch_and_all_of_the_shortcut() -> None:
    layer = torch.nn.Linear(3, 3)
    soft = Softened(layer, 0.25)
    given = torch.randn(2, 3, requires_grad=True)

    (given + soft(given)).sum().backward()

    assert given.grad is not None
    expected = 1 + 0.25 * layer.weight.sum(0)
    assert torch.allclose(given.grad, expected.expand(2, 3), atol=1e-6)


def test_blocks_without_a_shortcut_keep_their_gradient() -> None:
    network = build_recognizer("mobilefacenet", identifier="m").network
    soften(network, 0.5)
    blocks = [part for part in network.modules() if hasattr(part, "shortcut")]
    softened = [isinstance(part.get_submodule("conv"), Softened) for part in blocks]
    assert softened == [part.shortcut for part in blocks]
    assert not all(softened)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_no_other_shares(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        soften(torch.nn.Linear(2, 2), share)
