"""Builds classifiers by the name of their architecture."""

from collections.abc import Callable, Mapping, Sequence

from torch import nn
from torchvision import models as zoo

from services.worker.models.base import Classifier
from services.worker.models.networks import SimpleCNN


def _small_stem(network: nn.Module) -> nn.Module:
    """Keep the resolution of 32x32 images: stride 1 and no pooling before the first stage."""
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


def _resnet(build: Callable[..., nn.Module]) -> Callable[[int, int], nn.Module]:
    def make(classes: int, size: int) -> nn.Module:
        network = build(num_classes=classes)
        return _small_stem(network) if size <= 64 else network

    return make


def _plain(build: Callable[..., nn.Module]) -> Callable[[int, int], nn.Module]:
    def make(classes: int, size: int) -> nn.Module:
        del size
        return build(num_classes=classes)

    return make


# name: (default input size, builder of (classes, size))
_BUILDERS: Mapping[str, tuple[int, Callable[[int, int], nn.Module]]] = {
    "cnn": (32, lambda classes, size: SimpleCNN(classes, size=size)),
    "resnet18": (224, _resnet(zoo.resnet18)),
    "resnet34": (224, _resnet(zoo.resnet34)),
    "mobilenet_v3_small": (112, _plain(zoo.mobilenet_v3_small)),
    "mobilenet_v3_large": (224, _plain(zoo.mobilenet_v3_large)),
}

ARCHITECTURES = tuple(_BUILDERS)


def build(
    architecture: str, *, classes: Sequence[str], input_size: int | None = None
) -> Classifier:
    """Build a classifier with fresh weights.

    ``input_size`` is the side of the square input in pixels (default: the architecture's own).
    Raises ``ValueError`` for an unknown architecture.
    """
    if architecture not in _BUILDERS:
        raise ValueError(f"unknown architecture {architecture!r}: use one of {ARCHITECTURES}")
    default_size, builder = _BUILDERS[architecture]
    size = input_size or default_size
    network = builder(len(classes), size)
    return Classifier(network, architecture=architecture, classes=classes, input_size=(size, size))
