"""The state of a running ``evaluate`` job."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.worker.datasets.labeled import LabeledImages
from services.worker.jobs.evaluate.checkpoint import EvaluateCheckpoint
from services.worker.jobs.evaluate.inputs import Material
from services.worker.jobs.evaluate.plan import RowPlan, most_passes
from services.worker.models.registry import LoadedModel
from services.worker.stopping import CancelCheck
from shared.specs.evaluate import EvaluateSpec

CHUNK = 50
# What is lost when a worker dies: 7 pictures carved from 256 px, at 10,100 queries each.
PIXELS_A_PART = 5e9


@dataclass
class Work:
    """A job: its models, pictures and rows, what is done, and how far it is."""

    spec: EvaluateSpec
    models: list[LoadedModel]
    material: Material
    plans: list[RowPlan]
    checkpoint: EvaluateCheckpoint
    check: CancelCheck
    report: Callable[..., None]
    total: int = 1
    done: int = 0

    def owner(self, plan: RowPlan) -> LoadedModel:
        """Return the model of a row."""
        return next(m for m in self.models if m.classifier is plan.setting.classifier)

    def pictures(self, plan: RowPlan) -> LabeledImages:
        """Return what a row attacks."""
        return self.material.of(self.owner(plan), plan.setting.side)

    def parts(self, plan: RowPlan) -> list[range]:
        """Return the numbers of a row's pictures in the parts that are done and kept at once.

        They follow from the attack and the pictures' size alone: whoever goes on with the job has
        to find the same ones, and so has a defended row in the undefended one beside it.
        """
        count, side = len(self.pictures(plan)), plan.setting.side
        shown = most_passes(plan.attack, side) * side**2
        size = max(1, min(CHUNK, int(PIXELS_A_PART / shown)))
        return [range(start, min(start + size, count)) for start in range(0, count, size)]

    @staticmethod
    def piece(key: str, numbers: range) -> str:
        """Name a part of the row ``key`` in the checkpoint."""
        return f"{key}/{numbers.start}-{numbers.stop}"

    def detects(self, plan: RowPlan) -> bool:
        """Whether the detector judges a row's pictures: those of the model alone, at its input."""
        inner = self.owner(plan).classifier.input_size[0]
        return bool(self.spec.detector) and plan.beside is None and plan.setting.side == inner

    def say(self, message: str, **data: Any) -> None:
        """Report progress."""
        self.report(self.done, self.total, message, **data)
