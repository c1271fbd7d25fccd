"""Small networks that no library carries."""

import torch
from torch import Tensor, nn


class SimpleCNN(nn.Module):
    """The plain convolutional network of the one-pixel paper (Park et al. 2022), for 32x32.

    Three stages of two 3x3 convolutions with batch normalization, then two linear layers.
    """

    def __init__(self, classes: int, *, width: int = 32, size: int = 32) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        stages: list[nn.Module] = []
        channels = 3
        for out in widths:
            stages += [*_convolution(channels, out), *_convolution(out, out), nn.MaxPool2d(2)]
            channels = out
        self.features = nn.Sequential(*stages)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(channels * (size // 8) ** 2, 128),
            nn.ReLU(inplace=True),
            nn.Dropout(0.3),
            nn.Linear(128, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map normalized images ``(N, 3, 32, 32)`` to logits ``(N, C)``."""
        logits: Tensor = self.head(self.features(images))
        return logits


def _convolution(channels: int, out: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, out, 3, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    ]


class LeNet(nn.Module):
    """LeNet-5 (LeCun et al. 1998) for color, with rectifiers and max pooling."""

    def __init__(self, classes: int, *, size: int = 32) -> None:
        super().__init__()
        side = ((size - 4) // 2 - 4) // 2
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * side**2, 120),
            nn.ReLU(inplace=True),
            nn.Linear(120, 84),
            nn.ReLU(inplace=True),
            nn.Linear(84, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map normalized images ``(N, 3, S, S)`` to logits ``(N, C)``."""
        logits: Tensor = self.head(self.features(images))
        return logits


class CapsNet(nn.Module):
    """A capsule network with dynamic routing (Sabour, Frosst and Hinton 2017).

    ``width`` filters of 9x9, then ``width / 8`` primary capsules of 8 values a position (9x9,
    stride 2), then one capsule of 16 values a class. The probability that the paper reads from a
    class capsule is its length ``|s|^2 / (1 + |s|^2)``; the logit of that is ``log |s|^2``, which
    is what ``forward`` returns.
    """

    primary_values = 8
    class_values = 16

    def __init__(
        self, classes: int, *, size: int = 32, width: int = 256, routings: int = 3
    ) -> None:
        super().__init__()
        side = (size - 8 - 9) // 2 + 1
        capsules = width // self.primary_values * side**2
        self.features = nn.Sequential(nn.Conv2d(3, width, 9), nn.ReLU(inplace=True))
        self.primary = nn.Conv2d(width, width, 9, stride=2)
        self.head = ClassCapsules(
            capsules, classes, values=(self.primary_values, self.class_values), routings=routings
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map normalized images ``(N, 3, S, S)`` to logits ``(N, C)``."""
        logits: Tensor = self.head(self.primary_capsules(images))
        return logits

    def primary_capsules(self, images: Tensor) -> Tensor:
        """Return the primary capsules, squashed, ``(N, capsules, 8)``."""
        maps = self.primary(self.features(images))
        # The values of a capsule are neighboring channels at one position.
        grouped = maps.unflatten(1, (-1, self.primary_values)).transpose(1, 2)
        return squash(grouped.flatten(2).transpose(1, 2))


class ClassCapsules(nn.Module):
    """The last layer of a capsule network: one capsule a class, found by routing."""

    def __init__(
        self, capsules: int, classes: int, *, values: tuple[int, int], routings: int
    ) -> None:
        super().__init__()
        self.routings = routings
        self.votes = nn.Parameter(0.1 * torch.randn(capsules, classes, *values))

    def forward(self, capsules: Tensor) -> Tensor:
        """Map primary capsules ``(N, capsules, 8)`` to logits ``(N, C)``."""
        return (self.totals(capsules).square().sum(-1) + 1e-8).log()

    def totals(self, capsules: Tensor) -> Tensor:
        """Return the class capsules before squashing, ``(N, C, 16)``."""
        votes = torch.einsum("ncv,ckvo->ncko", capsules, self.votes)
        return route(votes, self.routings)


def squash(vectors: Tensor) -> Tensor:
    """Shrink vectors along the last axis to lengths in [0, 1) and keep their directions."""
    square = vectors.square().sum(-1, keepdim=True)
    return vectors * square / (1 + square) / (square + 1e-8).sqrt()


def route(votes: Tensor, routings: int) -> Tensor:
    """Sum votes ``(N, capsules, C, V)`` to ``(N, C, V)``, weighted by their agreement.

    Procedure 1 of Sabour et al. 2017. The weights of each capsule over the classes start equal and
    grow where its vote points along the outcome; the gradient flows through the last sum only.
    """
    fixed = votes.detach()
    agreement = torch.zeros_like(fixed[..., 0])
    for _ in range(routings - 1):
        outcome = squash(torch.einsum("nck,nckv->nkv", agreement.softmax(2), fixed))
        agreement = agreement + torch.einsum("nckv,nkv->nck", fixed, outcome)
    return torch.einsum("nck,nckv->nkv", agreement.softmax(2), votes)
