"""The settings of a training run."""

from dataclasses import dataclass, field

from services.worker.training.augment import Augmentation
from services.worker.training.optimize import OptimizerName


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a run. ``max_lr`` is the peak of the one-cycle schedule (Smith 2018).

    The head alone learns for ``frozen_epochs``; then all does, in a cycle of its own, the backbone
    at ``backbone_rate`` times the rate. ``temperature`` divides the logits in the loss.
    """

    epochs: int = 20
    batch_size: int = 64
    max_lr: float = 1e-3
    optimizer: OptimizerName = "adamw"
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    clip_norm: float = 1.0
    balanced: bool = False  # draw every class equally often
    class_weights: bool = False  # weigh every class equally in the loss
    patience: int = 0  # epochs without a better validation loss; 0: never stop early
    frozen_epochs: int = 0
    backbone_rate: float = 1.0
    temperature: float = 1.0
    bf16: bool = False
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)
