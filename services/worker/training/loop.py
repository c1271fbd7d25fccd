"""The training loop: deterministic by seed, resumable at any step, cancelable at every step."""

import copy
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from services.worker.datasets.labeled import LabeledImages
from services.worker.models.base import Classifier
from services.worker.models.predict import accuracy, as_input, channels_last, predict
from services.worker.stopping import CancelCheck, Progress, Stopped
from services.worker.training.augment import augment
from services.worker.training.balance import class_weights, order
from services.worker.training.config import TrainConfig
from services.worker.training.distill import Teacher
from services.worker.training.history import Epoch, LiveEpoch, Trained
from services.worker.training.optimize import (
    as_laid_out,
    freeze_backbone,
    make_optimizer,
    one_cycle,
    set_rate,
)
from services.worker.training.robust import Perturb

__all__ = [
    "State",
    "TrainConfig",
    "Trained",
    "one_cycle",
    "predict",
    "train",
]

State = dict[str, Any]

# Weight of the loss at Inception's auxiliary head (Szegedy et al. 2016, torchvision's references).
AUXILIARY_WEIGHT = 0.4
# So many validation images are perturbed in each epoch of a robust training.
ROBUST_VALIDATION = 512
# How often a GPU is asked for the loss: each time it has to finish what it was given.
REPORT_SECONDS_GPU = 0.25


def train(
    classifier: Classifier,
    data: LabeledImages,
    validation: LabeledImages,
    config: TrainConfig,
    *,
    device: torch.device | str = "cpu",
    perturb: Perturb | None = None,
    teacher: Teacher | None = None,
    progress: Progress | None = None,
    watch: Callable[[LiveEpoch], None] | None = None,
    check_cancel: CancelCheck | None = None,
    save: Callable[[State], None] | None = None,
    save_every_s: float = 60.0,
    resume: State | None = None,
) -> Trained:
    """Train in place and return the best model by validation loss.

    Images are uint8 ``(N, 3, S, S)``; float data are taken as they are and not augmented (cached
    features). ``perturb`` changes what is learned from, ``teacher`` says what is to be answered.
    ``save`` receives the state after every epoch, and within one every ``save_every_s`` seconds;
    giving such a state as ``resume`` goes on from there to the same final weights as an unbroken
    run. A ``Stopped`` that ends the job returns the best model so far; one before the first epoch
    is over, or for another worker to go on, is raised. Raises ``ValueError`` for empty sets or
    other classes.
    """
    if not len(data) or not len(validation):
        raise ValueError("training and validation need at least one image each")
    if not data.classes == validation.classes == classifier.classes:
        raise ValueError("model, training and validation must have the same classes")
    if teacher is not None and teacher.classifier.classes != classifier.classes:
        raise ValueError("the teacher must have the student's classes")
    run = _Run(classifier, data, validation, config, torch.device(device), perturb, teacher)
    if resume is not None:
        run.load(resume)
    hooks = _Hooks(progress, watch, check_cancel, save, save_every_s)
    stopped: Stopped | None = None
    while run.epoch < config.epochs and not run.out_of_patience:
        try:
            run.pass_over(hooks)
            run.judge(check_cancel)
            if save is not None:
                save(run.state())
        except Stopped as stop:
            if run.best is None or not stop.ends_job:
                raise
            stopped = stop
            break
    if run.best is None:
        raise ValueError("a training needs at least one epoch")
    classifier.load_state_dict(run.best_weights)
    classifier.eval().requires_grad_(True)
    return Trained(classifier, tuple(run.history), run.best, stopped, run.seconds, run.data_seconds)


@dataclass(frozen=True)
class _Hooks:
    progress: Progress | None
    watch: Callable[[LiveEpoch], None] | None
    check_cancel: CancelCheck | None
    save: Callable[[State], None] | None
    save_every_s: float


class _Run:
    def __init__(
        self,
        classifier: Classifier,
        data: LabeledImages,
        validation: LabeledImages,
        config: TrainConfig,
        device: torch.device,
        perturb: Perturb | None,
        teacher: Teacher | None,
    ) -> None:
        self.config, self.device = config, device
        self.data, self.validation = data, validation
        self.perturb, self.teacher = perturb, teacher
        self.classifier = classifier.to(device).to(memory_format=torch.channels_last)
        self.steps = max(1, len(data) // config.batch_size)
        self.weights = (
            class_weights(data.labels, len(data.classes))
            if config.class_weights or config.balanced
            else None
        )
        self.optimizer = make_optimizer(
            classifier,
            config.optimizer,
            weight_decay=config.weight_decay,
            backbone_rate=config.backbone_rate,
        )
        self.epoch = self.step = 0
        self.batch = min(config.batch_size, len(data))
        # Sums over the epoch so far: losses of the steps, right answers.
        self.totals = torch.zeros(2, dtype=torch.float64, device=device)
        self.history: list[Epoch] = []
        self.best: Epoch | None = None
        self.best_weights: dict[str, Tensor] = {}
        self.seconds = self.data_seconds = 0.0

    @property
    def out_of_patience(self) -> bool:
        if not self.config.patience or self.best is None:
            return False
        return self.epoch - self.best.number > self.config.patience

    def pass_over(self, hooks: _Hooks) -> None:
        """Do the rest of the epoch."""
        freeze_backbone(self.classifier, frozen=self.epoch < self.config.frozen_epochs)
        which = order(self.data.labels, self._generator(self.epoch), balanced=self.config.balanced)
        cuda = [self.device] if self.device.type == "cuda" else []
        saved_at = reported_at = time.monotonic()
        with torch.random.fork_rng(devices=cuda):
            while self.step < self.steps:
                if hooks.check_cancel is not None:
                    hooks.check_cancel()
                start = self.step * self.config.batch_size
                self._learn(which[start : start + self.config.batch_size])
                self.step += 1
                now = time.monotonic()
                if not cuda or now - reported_at > REPORT_SECONDS_GPU or self.step == self.steps:
                    reported_at = now
                    self._report(hooks)
                if hooks.save and now - saved_at >= hooks.save_every_s and self.step < self.steps:
                    hooks.save(self.state())
                    saved_at = time.monotonic()

    def _report(self, hooks: _Hooks) -> None:
        loss, right = self.totals.tolist()
        seen = self.step * self.batch
        if hooks.watch is not None:
            rate = self.optimizer.param_groups[-1]["lr"]
            hooks.watch(LiveEpoch(self.epoch, self.step, loss / self.step, right / seen, rate))
        if hooks.progress is not None:
            done = self.epoch * self.steps + self.step
            message = f"epoch {self.epoch + 1}, loss {loss / self.step:.3f}"
            hooks.progress(done, self.config.epochs * self.steps, message)

    def _learn(self, which: Tensor) -> None:
        began = time.perf_counter()
        # All randomness of a step follows from the seed and its place: nothing to save.
        generator = self._generator(self.epoch, 1 + self.step)
        torch.manual_seed(generator.initial_seed())
        set_rate(self.optimizer, one_cycle(self._position(), self.config.max_lr))
        labels = self.data.labels[which].to(self.device)
        batch = self._batch(self.data.images[which], generator)
        self.data_seconds += time.perf_counter() - began
        soft = self.teacher.soft_labels(batch) if self.teacher is not None else None
        if self.perturb is not None:
            batch = self.perturb(self.classifier, batch, labels, generator)
        with self._precision():
            logits, *auxiliary = self.classifier.all_logits(batch)
        loss = self._loss(logits, labels, soft)
        for head in auxiliary:
            loss = loss + AUXILIARY_WEIGHT * self._loss(head, labels, soft)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.classifier.parameters(), self.config.clip_norm)
        self.optimizer.step()
        with torch.no_grad():
            right = (logits.argmax(1) == labels).sum()
            plain = loss.detach().double() / self.config.temperature**2
            self.totals += torch.stack([plain, right])
        self.seconds += time.perf_counter() - began

    def _position(self) -> float:
        """Return how much of the current cycle is over, in [0, 1)."""
        frozen = min(self.config.frozen_epochs, self.config.epochs)
        first, last = (0, frozen) if self.epoch < frozen else (frozen, self.config.epochs)
        return ((self.epoch - first) * self.steps + self.step) / ((last - first) * self.steps)

    def _batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        on_device = images.to(self.device)
        if images.dtype != torch.uint8:
            return on_device
        return augment(on_device, self.config.augmentation, generator)

    def _loss(self, logits: Tensor, labels: Tensor, soft: Tensor | None) -> Tensor:
        heat = self.config.temperature
        weights = self.weights if self.config.class_weights else None
        loss = functional.cross_entropy(
            logits.float() / heat,
            labels if soft is None else soft,
            weight=None if weights is None else weights.to(self.device),
            label_smoothing=self.config.label_smoothing if soft is None else 0.0,
        )
        # Its gradient would otherwise shrink with the temperature (Hinton et al. 2015).
        return loss * heat**2

    def judge(self, check_cancel: CancelCheck | None) -> None:
        """Validate, and keep the model if it is the best so far."""
        logits = predict(
            self.classifier, self.validation.images, device=self.device, check_cancel=check_cancel
        )
        labels = self.validation.labels
        robust = None
        chosen, against = logits, labels
        if self.perturb is not None:
            chosen, against = self._perturbed(self.perturb, check_cancel)
            robust = accuracy(chosen, against)
        loss, right = self.totals.tolist()
        epoch = Epoch(
            number=self.epoch,
            train_loss=loss / self.steps,
            val_loss=float(functional.cross_entropy(logits, labels)),
            val_accuracy=accuracy(logits, labels),
            train_accuracy=right / (self.steps * self.batch),
            selection_loss=float(
                functional.cross_entropy(
                    chosen / self.config.temperature, against, weight=self._seen_weights(against)
                )
            ),
            robust_accuracy=robust,
        )
        self.history.append(epoch)
        if self.best is None or epoch.selection_loss < self.best.selection_loss:
            self.best = epoch
            self.best_weights = copy.deepcopy(self.classifier.state_dict())
        self.epoch, self.step = self.epoch + 1, 0
        self.totals.zero_()

    def _seen_weights(self, labels: Tensor) -> Tensor | None:
        if self.weights is None:
            return None
        return class_weights(labels, len(self.data.classes))

    def _perturbed(
        self, perturb: Perturb, check_cancel: CancelCheck | None
    ) -> tuple[Tensor, Tensor]:
        """Return the logits and labels of some validation images, perturbed alike every time."""
        self.classifier.eval()
        generator = self._generator(self.config.epochs)
        drawn = torch.randperm(len(self.validation), generator=self._generator(0, 0))
        chosen = drawn[:ROBUST_VALIDATION].sort().values
        parts = []
        for which in chosen.split(self.config.batch_size):
            if check_cancel is not None:
                check_cancel()
            images = channels_last(as_input(self.validation.images[which].to(self.device)))
            labels = self.validation.labels[which].to(self.device)
            moved = perturb(self.classifier, images, labels, generator)
            with torch.inference_mode():
                parts.append(self.classifier(moved).float().cpu())
        return torch.cat(parts), self.validation.labels[chosen]

    def _generator(self, *place: int) -> torch.Generator:
        """Return the random numbers of an epoch, or of one step of it."""
        seed = np.random.SeedSequence([self.config.seed, *place]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(seed[0]))

    def _precision(self) -> Any:
        if not self.config.bf16:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def state(self) -> State:
        """Return everything that the rest of the run depends on."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "totals": self.totals.tolist(),
            "history": [asdict(epoch) for epoch in self.history],
            "best": asdict(self.best) if self.best else None,
            "model": copy.deepcopy(self.classifier.state_dict()),
            "best_weights": self.best_weights,
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "seconds": self.seconds,
            "data_seconds": self.data_seconds,
        }

    def load(self, state: State) -> None:
        """Go on from a state."""
        self.epoch, self.step = state["epoch"], state["step"]
        self.totals.copy_(torch.tensor(state["totals"], dtype=torch.float64))
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.best = Epoch(**state["best"]) if state["best"] else None
        self.best_weights = state["best_weights"]
        self.classifier.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        as_laid_out(self.optimizer)
        self.seconds, self.data_seconds = state["seconds"], state["data_seconds"]
