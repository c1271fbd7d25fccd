"""What a pattern is: states that can be drawn, and moves from one to the next."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.worker.masks.hog.detector import MAX_SIDE, Picture

State = NDArray[np.generic]


class Pattern(Protocol):
    """A space of pictures that the annealing walks through. A state is never changed in place."""

    def start(self, rng: np.random.Generator) -> State:
        """Return the state to begin with."""
        ...

    def propose(self, state: State, rng: np.random.Generator, heat: float) -> State:
        """Return a neighbor; ``heat`` falls from 1 to 0, and the moves get smaller with it."""
        ...

    def render(self, state: State) -> Picture:
        """Draw a state, uint8 ``(H, W, 3)``, RGB."""
        ...


def check_canvas(height: int, width: int, smallest: int) -> None:
    """Raise ``ValueError`` for a picture that is too small or too large."""
    if not smallest <= min(height, width) <= max(height, width) <= MAX_SIDE:
        raise ValueError(
            f"a pattern has sides of {smallest} to {MAX_SIDE} pixels, not {height} x {width}"
        )
