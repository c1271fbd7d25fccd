"""What an attack is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from services.worker.attacks.scene import Scene

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """An attack with its parameters: a frozen dataclass, keyword-only, without state of its own.

    The state between steps is a dict of tensors whose first axis is that of the scene's images,
    so that finished images can leave and a checkpoint can be taken between any two steps.
    ``fold`` folds batch normalization and ``search_bf16`` asks in bfloat16 while searching;
    results are confirmed with the model as given, in float32, whatever they are.
    """

    name: ClassVar[str]
    uses_gradients: ClassVar[bool] = False

    fold: bool = True
    search_bf16: bool = False

    @property
    @abstractmethod
    def total_steps(self) -> int:
        """How many steps the longest run takes."""

    @abstractmethod
    def begin(self, scene: Scene) -> State:
        """Return the state before step 0."""

    @abstractmethod
    def step(self, scene: Scene, state: State, number: int) -> Tensor:
        """Do one step, offer what was found; return which images are finished, bool ``(A,)``."""
