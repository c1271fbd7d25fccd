"""A pattern and what it is to achieve: what is annealed."""

from dataclasses import dataclass

from services.worker.masks.hog.objectives import Objective, Rating
from services.worker.masks.hog.pattern import Pattern, State


@dataclass(frozen=True)
class Problem:
    """States of ``pattern``, rated by ``objective``."""

    pattern: Pattern
    objective: Objective

    def rate(self, state: State) -> Rating:
        """Draw a state and rate it."""
        return self.objective.rate(self.pattern.render(state))
