"""The training of a ``train`` job, phase by phase, with its progress and checkpoints."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from services.worker.datasets.splits import Sides
from services.worker.jobs.kit import checkpoint
from services.worker.jobs.kit.checkpoint import CheckpointWriter
from services.worker.jobs.train.plan import Plan
from services.worker.models.base import Classifier
from services.worker.runtime.context import JobContext
from services.worker.training.checkpoint import pack, unpack
from services.worker.training.distill import Teacher
from services.worker.training.history import Epoch, LiveEpoch, Trained
from services.worker.training.loop import State, train
from services.worker.training.transfer import train_head
from shared.results.train import EpochFigures

_TENSORS, _VALUES = "state.safetensors", "state.json"


@dataclass
class CheckpointedTraining:
    """One run of the job, from the phase and step on that its checkpoint has reached.

    Phases are ``teacher`` (trained first, where a distillation names none) and ``student``.
    """

    context: JobContext
    plan: Plan
    phases: tuple[str, ...]
    estimated_seconds: float
    left: tuple[str, ...] = ()
    teacher_weights: dict[str, torch.Tensor] | None = None
    resumed: State | None = None
    last_epoch: Epoch | None = None

    def __post_init__(self) -> None:
        self.left = self.phases
        self.writer = CheckpointWriter(self.context)
        files = self.writer.load(_TENSORS, _VALUES)
        if files is None:
            return
        state = unpack(files[_TENSORS], files[_VALUES].decode())
        # Another worker may have other hardware: a run ends at the precision it began with.
        self.plan = replace(self.plan, config=replace(self.plan.config, bf16=state["bf16"]))
        self.left = tuple(state["left"])
        self.teacher_weights = state["teacher"]
        self.resumed = state["loop"]

    @property
    def total(self) -> int:
        """All steps of all phases, in thousandths of an epoch."""
        return 1000 * self.plan.config.epochs * len(self.phases)

    def learn(
        self, phase: str, classifier: Classifier, sides: Sides, teacher: Teacher | None
    ) -> Trained:
        """Train all weights of a classifier in one phase."""
        return train(
            classifier,
            sides.train,
            sides.val,
            self.plan.config,
            device=self.context.device,
            perturb=self.plan.perturb,
            teacher=teacher,
            **self._hooks(phase, _steps(sides, self.plan)),
        )

    def learn_head(self, classifier: Classifier, sides: Sides) -> Trained:
        """Train the head on cached features."""

        def seen(done: int, total: int) -> None:
            self.context.progress(0, self.total, f"features of {done} of {total} pictures")

        times = 2 if self.plan.config.augmentation.flip else 1
        return train_head(
            classifier,
            sides.train,
            sides.val,
            self.plan.config,
            device=self.context.device,
            seen=seen,
            **self._hooks("student", _steps(sides, self.plan, times=times)),
        )

    def _hooks(self, phase: str, steps: int) -> dict[str, Any]:
        resume, self.resumed = self.resumed, None
        self.last_epoch = Epoch(**resume["history"][-1]) if resume and resume["history"] else None
        return {
            "watch": self._watch(phase, steps),
            "check_cancel": self.context.check,
            "save": lambda state: self._save(phase, state),
            "save_every_s": checkpoint.OFFER_SECONDS,
            "resume": resume,
        }

    def _watch(self, phase: str, steps: int) -> Callable[[LiveEpoch], None]:
        first: list[tuple[int, float]] = []

        def watch(live: LiveEpoch) -> None:
            before = self.phases.index(phase) * self.plan.config.epochs
            done = round(1000 * (before + live.epoch + live.step / steps))
            first[:] = first or [(done, time.monotonic())]
            figures = {
                "phase": phase,
                "epoch": live.epoch + 1,
                "loss": round(live.loss, 5),
                "accuracy": round(live.accuracy, 5),
                "learning_rate": live.learning_rate,
                "seconds_left": self._left(done, *first[0]),
            }
            message = f"epoch {live.epoch + 1} of {self.plan.config.epochs}"
            message += f": loss {live.loss:.3f}, accuracy {live.accuracy:.1%}"
            if self.last_epoch is not None:
                figures["val_loss"] = round(self.last_epoch.val_loss, 5)
                figures["val_accuracy"] = round(self.last_epoch.val_accuracy, 5)
                message += f"; validation {self.last_epoch.val_accuracy:.1%}"
            if phase == "teacher":
                message = f"teacher, {message}"
            # The job is not over with its last step: testing and registering follow.
            self.context.progress(done, self.total + 1, message, **figures)

        return watch

    def _left(self, done: int, first_done: int, first_at: float) -> float:
        if done == first_done:
            return round(self.estimated_seconds * (1 - done / self.total), 1)
        each = (time.monotonic() - first_at) / (done - first_done)
        return round(each * (self.total - done), 1)

    def _save(self, phase: str, state: State) -> None:
        within = state["step"] > 0
        if not within:
            self.last_epoch = Epoch(**state["history"][-1])
            # Progress is written seldom; an epoch's figures must not fall between.
            figures = figures_of(self.last_epoch).model_dump(mode="json")
            self.context.event("epoch", {"phase": phase, **figures})
        self.writer.save(lambda: self._files(phase, state), milestone=not within)

    def _files(self, phase: str, state: State) -> dict[str, bytes]:
        tensors, document = pack(
            {
                "left": self.phases[self.phases.index(phase) :],
                "bf16": self.plan.config.bf16,
                "teacher": self.teacher_weights,
                "loop": state,
            }
        )
        return {_TENSORS: tensors, _VALUES: document.encode()}


def _steps(sides: Sides, plan: Plan, *, times: int = 1) -> int:
    return max(1, times * len(sides.train) // plan.config.batch_size)


def figures_of(epoch: Epoch) -> EpochFigures:
    """Return what users see of an epoch."""
    return EpochFigures(
        epoch=epoch.number + 1,
        train_loss=epoch.train_loss,
        train_accuracy=epoch.train_accuracy,
        val_loss=epoch.val_loss,
        val_accuracy=epoch.val_accuracy,
        robust_accuracy=epoch.robust_accuracy,
    )
