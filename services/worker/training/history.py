"""What a training run says of itself, while it goes on and when it is over."""

from dataclasses import dataclass

from services.worker.models.base import Classifier
from services.worker.stopping import Stopped


@dataclass(frozen=True)
class Epoch:
    """Figures of one epoch; the model of the lowest ``selection_loss`` is kept.

    That loss is the validation's, on perturbed images where training was on such, and with every
    class counted equally where training did so. ``robust_accuracy`` is that on perturbed images.
    """

    number: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    train_accuracy: float = 0.0
    selection_loss: float = 0.0
    robust_accuracy: float | None = None


@dataclass(frozen=True)
class LiveEpoch:
    """Figures of the epoch that is under way."""

    epoch: int
    step: int
    loss: float
    accuracy: float
    learning_rate: float


@dataclass(frozen=True)
class Trained:
    """A finished run: the model holds the weights of the best validation epoch.

    ``stopped`` is what ended it early. ``data_seconds`` of ``seconds`` went into reading and
    augmenting, this process alone.
    """

    classifier: Classifier
    history: tuple[Epoch, ...]
    best: Epoch
    stopped: Stopped | None = None
    seconds: float = 0.0
    data_seconds: float = 0.0
