"""Training settings named after the papers they come from."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.worker.training.augment import Augmentation
from services.worker.training.loop import TrainConfig

NO_AUGMENTATION = Augmentation(flip=0, rotation=0, zoom=0, shift=0, color=0, erase=0, blur=0)


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
