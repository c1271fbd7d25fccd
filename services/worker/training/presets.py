"""Training settings named after the papers they come from."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from services.worker.models.optimized.frozen import has_fast_bf16
from services.worker.training.augment import Augmentation
from services.worker.training.config import TrainConfig

NO_AUGMENTATION = Augmentation(flip=0, rotation=0, zoom=0, shift=0, color=0, erase=0, blur=0)
# Measured on a CPU with bfloat16: 1.2 to 1.8 times as fast; depthwise convolutions get slower.
BF16_FAMILIES = ("cnn", "resnet18", "resnet34", "resnet34_7x7", "inception_v3", "face_resnet")


@dataclass(frozen=True)
class Preset:
    """A paper's network, input size and settings; what the paper does not say is plain."""

    architecture: str
    input_size: int
    config: TrainConfig


PRESETS: Mapping[str, Preset] = {
    # One-pixel attack and seam carving: the simple CNN; ResNet-34 was trained alike.
    "paper-000": Preset(
        "cnn",
        32,
        TrainConfig(
            epochs=40,
            batch_size=256,
            max_lr=1e-3,
            optimizer="sgd",
            weight_decay=0.0,
            label_smoothing=0.0,
            augmentation=NO_AUGMENTATION,
        ),
    ),
    # FGSM and PGD on fine-tuned networks. Its learning rate is not given: Keras' default for SGD.
    "paper-001": Preset(
        "mobilenet_v3_small",
        224,
        TrainConfig(
            epochs=20,
            batch_size=100,
            max_lr=1e-2,
            optimizer="sgd",
            weight_decay=0.0,
            label_smoothing=0.0,
            augmentation=NO_AUGMENTATION,
        ),
    ),
    # Face encryption: identity classifier with flips, rotation up to 30 degrees and zoom of 10 %.
    "paper-003": Preset(
        "resnet18",
        224,
        TrainConfig(
            epochs=25,
            label_smoothing=0.0,
            augmentation=Augmentation(
                flip=0.5, rotation=30, zoom=0.1, shift=0, color=0, erase=0, blur=0
            ),
        ),
    ),
}


def bf16_helps(architecture: str, device: torch.device) -> bool:
    """Whether bfloat16 makes training faster: of that network, on hardware that has it."""
    return architecture in BF16_FAMILIES and has_fast_bf16(device)
