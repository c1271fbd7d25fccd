"""When an adversarial image counts, and how near it is: criteria as objects."""

from typing import Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional


class Criterion(Protocol):
    """What an attack wants of each image. All methods take logits ``(N, C)`` and return ``(N,)``.

    ``margin`` is negative exactly where the criterion is met; ``score`` falls and
    ``cross_entropy`` rises as the image comes nearer to it. All work from two classes.
    """

    @property
    def targeted(self) -> bool:
        """Whether one class is wanted, not any other than the true one."""
        ...

    @property
    def classes(self) -> Tensor:
        """The class ``(N,)`` to leave, or to reach when targeted."""
        ...

    def margin(self, logits: Tensor) -> Tensor:
        """Difference of the class's logit and the best other one, positive while not met."""
        ...

    def score(self, logits: Tensor) -> Tensor:
        """Log-odds of the class, negative if targeted: orders images as its confidence does."""
        ...

    def cross_entropy(self, logits: Tensor) -> Tensor:
        """The loss to maximize."""
        ...

    def take(self, rows: Tensor) -> Self:
        """Return the criterion of some images, in the order of ``rows`` (repeats are allowed)."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """Return the criterion on a device."""
        ...


def _others(logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Split logits into those of the classes ``(N,)`` and the others, -inf at the class."""
    own = logits.gather(1, classes[:, None])[:, 0]
    return own, logits.scatter(1, classes[:, None], float("-inf"))


class Untargeted:
    """Any class but the true one. A tie between two classes is not a success."""

    targeted = False

    def __init__(self, labels: Tensor) -> None:
        self.classes = labels.long()

    def margin(self, logits: Tensor) -> Tensor:
        own, others = _others(logits, self.classes)
        return own - others.amax(1)

    def score(self, logits: Tensor) -> Tensor:
        # The softmax saturates at 1 in float32 and would hide all progress; the log-odds do not.
        own, others = _others(logits, self.classes)
        return own - others.logsumexp(1)

    def cross_entropy(self, logits: Tensor) -> Tensor:
        return functional.cross_entropy(logits, self.classes, reduction="none")

    def take(self, rows: Tensor) -> "Untargeted":
        return Untargeted(self.classes[rows])

    def to(self, device: torch.device | str) -> "Untargeted":
        return Untargeted(self.classes.to(device))


class Targeted:
    """One wanted class ``targets``; ``labels`` are the true ones (default: as the model sees)."""

    targeted = True

    def __init__(self, targets: Tensor, labels: Tensor | None = None) -> None:
        self.classes = targets.long()
        self.labels = None if labels is None else labels.long()

    def margin(self, logits: Tensor) -> Tensor:
        own, others = _others(logits, self.classes)
        return others.amax(1) - own

    def score(self, logits: Tensor) -> Tensor:
        own, others = _others(logits, self.classes)
        return others.logsumexp(1) - own

    def cross_entropy(self, logits: Tensor) -> Tensor:
        return -functional.cross_entropy(logits, self.classes, reduction="none")

    def take(self, rows: Tensor) -> "Targeted":
        labels = None if self.labels is None else self.labels[rows]
        return Targeted(self.classes[rows], labels)

    def to(self, device: torch.device | str) -> "Targeted":
        labels = None if self.labels is None else self.labels.to(device)
        return Targeted(self.classes.to(device), labels)


def true_labels(criterion: Criterion, clean_logits: Tensor) -> Tensor:
    """Return the true classes ``(N,)``: known to the criterion, or else the model's own."""
    if isinstance(criterion, Targeted):
        return clean_logits.argmax(1) if criterion.labels is None else criterion.labels
    return criterion.classes


def check_criterion(criterion: Criterion, *, images: int, classes: int) -> None:
    """Raise ``ValueError`` unless there is one existing class for each image."""
    wanted = criterion.classes
    if wanted.shape != (images,):
        raise ValueError(f"{images} images need {images} labels, not {tuple(wanted.shape)}")
    if images and not bool(torch.logical_and(wanted >= 0, wanted < classes).all()):
        raise ValueError(f"labels must lie in 0..{classes - 1}")
