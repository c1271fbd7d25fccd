"""The training loop: deterministic by seed, resumable at every epoch, cancelable at every step."""

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from services.worker.models.base import Classifier
from services.worker.training.augment import Augmentation, augment
from services.worker.training.data import LabeledImages

Progress = Callable[[int, int, str], None]
State = dict[str, Any]

# Weight of the loss at Inception's auxiliary head (Szegedy et al. 2016, torchvision's references).
AUXILIARY_WEIGHT = 0.4


class TrainingCancelledError(Exception):
    """Raised by a cancel check; the loop then returns the best model so far."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a run. ``max_lr`` is the peak of the one-cycle schedule (Smith 2018)."""

    epochs: int = 20
    batch_size: int = 64
    max_lr: float = 1e-3
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    clip_norm: float = 1.0
    balanced: bool = False  # draw every class equally often
    patience: int = 0  # epochs without a better validation loss; 0: never stop early
    bf16: bool = False
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class Epoch:
    """Figures of one epoch."""

    number: int
    train_loss: float
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True)
class Trained:
    """A finished run: the model holds the weights of the best validation epoch."""

    classifier: Classifier
    history: tuple[Epoch, ...]
    best: Epoch
    cancelled: bool


def train(
    classifier: Classifier,
    data: LabeledImages,
    validation: LabeledImages,
    config: TrainConfig,
    *,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    check_cancel: Callable[[], None] | None = None,
    save: Callable[[State], None] | None = None,
    resume: State | None = None,
) -> Trained:
    """Train in place and return the best model by validation loss.

    ``save`` receives the state after every epoch; giving such a state as ``resume`` goes on from
    there to the same final weights as an unbroken run. ``check_cancel`` may raise
    ``TrainingCancelledError``. Raises ``ValueError`` for empty sets or other classes.
    """
    if not len(data) or not len(validation):
        raise ValueError("training and validation need at least one image each")
    if not data.classes == validation.classes == classifier.classes:
        raise ValueError("model, training and validation must have the same classes")
    run = _Run(classifier, data, config, torch.device(device))
    if resume is not None:
        run.load(resume)
    cancelled = False
    while run.epoch < config.epochs and not run.out_of_patience:
        try:
            train_loss = run.pass_over(data, progress, check_cancel)
        except TrainingCancelledError:
            cancelled = True
            break
        run.judge(validation, train_loss)
        if save is not None:
            save(run.state())
    if run.best is None:
        raise TrainingCancelledError("canceled before the first epoch was over")
    classifier.load_state_dict(run.best_weights)
    classifier.eval()
    return Trained(classifier, tuple(run.history), run.best, cancelled)


class _Run:
    def __init__(
        self, classifier: Classifier, data: LabeledImages, config: TrainConfig, device: torch.device
    ) -> None:
        self.config, self.device = config, device
        self.classifier = _placed(classifier, device)
        self.steps = max(1, len(data) // config.batch_size)
        self.optimizer = _optimizer(classifier, config)
        self.epoch = 0
        self.history: list[Epoch] = []
        self.best: Epoch | None = None
        self.best_weights: dict[str, Tensor] = {}

    @property
    def out_of_patience(self) -> bool:
        if not self.config.patience or self.best is None:
            return False
        return self.epoch - self.best.number > self.config.patience

    def pass_over(
        self,
        data: LabeledImages,
        progress: Progress | None,
        check_cancel: Callable[[], None] | None,
    ) -> float:
        # All randomness of an epoch follows from the seed and its number: nothing to save.
        generator = torch.Generator().manual_seed(self.config.seed * 100_003 + self.epoch)
        order = _order(data.labels, self.config, generator)
        self.classifier.train()
        total = 0.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed * 100_003 + self.epoch)
            for step in range(self.steps):
                if check_cancel is not None:
                    check_cancel()
                which = order[step * self.config.batch_size :][: self.config.batch_size]
                total += self._step(data.images[which], data.labels[which], step, generator)
                if progress is not None:
                    done = self.epoch * self.steps + step + 1
                    message = f"epoch {self.epoch + 1}, loss {total / (step + 1):.3f}"
                    progress(done, self.config.epochs * self.steps, message)
        return total / self.steps

    def _step(self, images: Tensor, labels: Tensor, step: int, generator: torch.Generator) -> float:
        rate = one_cycle(
            (self.epoch * self.steps + step) / (self.config.epochs * self.steps),
            self.config.max_lr,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = augment(images.float() / 255, self.config.augmentation, generator)
        batch = batch.to(self.device, memory_format=torch.channels_last)
        with _precision(self.config, self.device):
            logits, *auxiliary = self.classifier.all_logits(batch)
        loss = self._loss(logits, labels)
        for head in auxiliary:
            loss = loss + AUXILIARY_WEIGHT * self._loss(head, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.classifier.parameters(), self.config.clip_norm)
        self.optimizer.step()
        return float(loss.detach())

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(
            logits.float(), labels.to(self.device), label_smoothing=self.config.label_smoothing
        )

    def judge(self, validation: LabeledImages, train_loss: float) -> None:
        logits = predict(self.classifier, validation.images, device=self.device)
        loss = float(functional.cross_entropy(logits, validation.labels))
        accuracy = float((logits.argmax(1) == validation.labels).float().mean())
        epoch = Epoch(self.epoch, train_loss, loss, accuracy)
        self.history.append(epoch)
        if self.best is None or loss < self.best.val_loss:
            self.best = epoch
            self.best_weights = copy.deepcopy(self.classifier.state_dict())
        self.epoch += 1

    def state(self) -> State:
        return {
            "epoch": self.epoch,
            "history": [asdict(epoch) for epoch in self.history],
            "best": asdict(self.best) if self.best else None,
            "model": copy.deepcopy(self.classifier.state_dict()),
            "best_weights": self.best_weights,
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
        }

    def load(self, state: State) -> None:
        self.epoch = state["epoch"]
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.best = Epoch(**state["best"]) if state["best"] else None
        self.best_weights = state["best_weights"]
        self.classifier.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


@torch.inference_mode()
def predict(
    classifier: Classifier,
    images: Tensor,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 128,
) -> Tensor:
    """Return logits ``(N, C)`` of uint8 images ``(N, 3, S, S)``, on the CPU, in ``eval()``."""
    classifier.eval()
    parts = [
        classifier(
            (batch.to(device).float() / 255).contiguous(memory_format=torch.channels_last)
        ).cpu()
        for batch in images.split(batch_size)
    ]
    return torch.cat(parts) if parts else torch.empty(0, len(classifier.classes))


def one_cycle(position: float, max_lr: float) -> float:
    """Learning rate at ``position`` in [0, 1]: up over 30 %, then down by cosines."""
    warm = 0.3
    low, final = max_lr / 25, max_lr / 1e4
    if position < warm:
        return low + (max_lr - low) * (1 - math.cos(math.pi * position / warm)) / 2
    fall = (position - warm) / (1 - warm)
    return final + (max_lr - final) * (1 + math.cos(math.pi * fall)) / 2


def _optimizer(classifier: Classifier, config: TrainConfig) -> torch.optim.Optimizer:
    weights = [p for p in classifier.parameters() if p.ndim > 1]
    others = [p for p in classifier.parameters() if p.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.max_lr)
    return torch.optim.SGD(groups, lr=config.max_lr, momentum=0.9, nesterov=True)


def _order(labels: Tensor, config: TrainConfig, generator: torch.Generator) -> Tensor:
    if not config.balanced:
        return torch.randperm(len(labels), generator=generator)
    counts = torch.bincount(labels).clamp(min=1)
    return torch.multinomial(
        (1.0 / counts)[labels], len(labels), replacement=True, generator=generator
    )


def _placed(classifier: Classifier, device: torch.device) -> Classifier:
    return classifier.to(device).to(memory_format=torch.channels_last)


def _precision(config: TrainConfig, device: torch.device) -> Any:
    if not config.bf16:
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
