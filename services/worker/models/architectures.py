"""Builds classifiers by the name of their architecture."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from services.worker.models.base import IMAGENET_MEAN, IMAGENET_STD, Classifier
from services.worker.models.embedders import PooledEmbedder
from services.worker.models.networks import CapsNet, LeNet, SimpleCNN

# Up to this side an image is kept at its resolution by the first layers.
SMALL = 64
# Inception's auxiliary head pools 5x5 twice; smaller images leave it nothing to pool.
INCEPTION_AUXILIARY = 299
# The side of aligned faces: the network reads its last map with one filter as large.
FACE_SIDE = 112
# torchvision's ImageNet weights of Inception and GoogLeNet were trained on pixels in [-1, 1].
HALVES = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Architecture:
    """How to build a network of ``(classes, side of the input)``, and which sides it takes."""

    build: Callable[[int, int], nn.Module]
    size: int
    smallest: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


def _zoo(name: str, **options: Any) -> nn.Module:
    # Importing torchvision takes as long as importing torch: workers start without it.
    from torchvision import models  # noqa: PLC0415

    network: nn.Module = getattr(models, name)(**options)
    return network


def _small_stem(network: nn.Module) -> nn.Module:
    """Keep the resolution of 32x32 images: stride 1 and no pooling before the first stage."""
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


def _resnet(name: str) -> Callable[[int, int], nn.Module]:
    def make(classes: int, size: int) -> nn.Module:
        network = _zoo(name, num_classes=classes)
        return _small_stem(network) if size <= SMALL else network

    return make


def _vgg19(classes: int, size: int) -> nn.Module:
    network = _zoo("vgg19", num_classes=classes)
    if size <= SMALL:
        # 120 million weights on a map of 1x1 or 2x2 would only repeat it.
        network.avgpool = nn.AdaptiveAvgPool2d(1)
        network.classifier = nn.Sequential(
            nn.Linear(512, 512), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(512, classes)
        )
    return network


def _inception_v3(classes: int, size: int) -> nn.Module:
    auxiliary = size >= INCEPTION_AUXILIARY
    return _zoo("inception_v3", num_classes=classes, aux_logits=auxiliary, init_weights=True)


def _googlenet(classes: int, size: int) -> nn.Module:
    del size
    return _zoo("googlenet", num_classes=classes, aux_logits=True, init_weights=True)


def _plain(name: str) -> Callable[[int, int], nn.Module]:
    def make(classes: int, size: int) -> nn.Module:
        del size
        return _zoo(name, num_classes=classes)

    return make


def _face_resnet(classes: int, size: int) -> nn.Module:
    if size != FACE_SIDE:
        raise ValueError(f"face_resnet takes images of {FACE_SIDE} px, not {size} px")
    embedder = PooledEmbedder()
    # Named as in recognizers, so that one of those can be what a classifier starts from.
    return nn.Sequential(embedder, nn.ReLU(), nn.Linear(embedder.linear.out_channels, classes))


_ARCHITECTURES: Mapping[str, Architecture] = {
    "cnn": Architecture(lambda classes, size: SimpleCNN(classes, size=size), 32, 8),
    "lenet": Architecture(lambda classes, size: LeNet(classes, size=size), 32, 16),
    "capsnet": Architecture(lambda classes, size: CapsNet(classes, size=size), 32, 17),
    "resnet18": Architecture(_resnet("resnet18"), 224, 16),
    "resnet34": Architecture(_resnet("resnet34"), 224, 16),
    # What paper 000 fine-tuned at 32 px: ImageNet's weights fit it whole, and it takes a fifteenth
    # of the time of a network that keeps the resolution.
    "resnet34_7x7": Architecture(_plain("resnet34"), 32, 32),
    "vgg19": Architecture(_vgg19, 224, 32),
    "mobilenet_v3_small": Architecture(_plain("mobilenet_v3_small"), 112, 32),
    "mobilenet_v3_large": Architecture(_plain("mobilenet_v3_large"), 224, 32),
    "inception_v3": Architecture(_inception_v3, 299, 75, HALVES, HALVES),
    "googlenet": Architecture(_googlenet, 224, 32, HALVES, HALVES),
    "densenet121": Architecture(_plain("densenet121"), 224, 32),
    "face_resnet": Architecture(_face_resnet, FACE_SIDE, FACE_SIDE, HALVES, HALVES),
}

ARCHITECTURES = tuple(_ARCHITECTURES)


def published_name(architecture: str) -> str:
    """Return torchvision's name of the network that an architecture is."""
    return architecture.removesuffix("_7x7")


def default_input(architecture: str) -> int:
    """Return the side in pixels of the input that an architecture takes unless told otherwise."""
    return _find(architecture).size


def build(
    architecture: str, *, classes: Sequence[str], input_size: int | None = None
) -> Classifier:
    """Build a classifier with fresh weights.

    ``input_size`` is the side of the square input in pixels (default: the architecture's own).
    Residual networks and VGG adapt their first or last layers to sides of at most 64 px;
    ``resnet34_7x7`` keeps its 7x7 filters of stride 2, and the pooling after them, at any size;
    ``face_resnet`` takes 112 px only.
    Raises ``ValueError`` for an unknown architecture or an input that is too small for it.
    """
    found = _find(architecture)
    size = found.size if input_size is None else input_size
    if size < found.smallest:
        raise ValueError(f"{architecture} takes images from {found.smallest} px, not {size} px")
    network = found.build(len(classes), size)
    return Classifier(
        network,
        architecture=architecture,
        classes=classes,
        input_size=(size, size),
        mean=found.mean,
        std=found.std,
    )


def _find(architecture: str) -> Architecture:
    if architecture not in _ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}: use one of {ARCHITECTURES}")
    return _ARCHITECTURES[architecture]
