"""Small classifiers with known answers, and small images."""

import torch
from torch import Tensor, nn

from services.worker.models.base import Classifier

NAMES = ("with_mask", "without_mask", "mask_weared_incorrect")


class Linear(nn.Module):
    """Logits that are linear in the pixels."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T + self.bias


def wrap(network: nn.Module, *, classes: int, side: int) -> Classifier:
    """Wrap a network without normalization."""
    model = Classifier(
        network,
        architecture="toy",
        classes=NAMES[:classes],
        input_size=(side, side),
        mean=(0, 0, 0),
        std=(1, 1, 1),
    )
    return model.eval().requires_grad_(False)


def linear(weight: Tensor, bias: Tensor, *, side: int) -> Classifier:
    """Wrap a linear model: weight ``(C, 3 * side * side)``."""
    return wrap(Linear(weight, bias), classes=len(bias), side=side)


def small_cnn(*, classes: int = 2, side: int = 8, seed: int = 0) -> Classifier:
    """Build a small random network with batch normalization that reacts to single pixels."""
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(8 * (side // 2) ** 2, classes),
    )
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.35
    normalization = network[1]
    assert isinstance(normalization, nn.BatchNorm2d)
    normalization.running_mean = torch.randn(6, generator=generator) * 0.2
    normalization.running_var = torch.rand(6, generator=generator) + 0.5
    return wrap(network, classes=classes, side=side)


def pictures(count: int, *, side: int = 8, seed: int = 0) -> Tensor:
    """Draw uint8 images."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def labels_of(model: Classifier, images: Tensor) -> Tensor:
    """Return the classes that a model sees."""
    with torch.no_grad():
        labels: Tensor = model(images.float() / 255).argmax(1)
    return labels


def adversarial(results: object) -> Tensor:
    """Stack the adversarial images of a batch, uint8 ``(N, 3, H, W)``."""
    from services.worker.attacks.results import AttackBatch

    assert isinstance(results, AttackBatch)
    return torch.stack(
        [torch.from_numpy(result.adversarial).permute(2, 0, 1) for result in results.results]
    )
