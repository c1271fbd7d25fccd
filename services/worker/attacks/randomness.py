"""Random numbers that depend on the seed, the image and the step, and on nothing else."""

import numpy as np
import torch
from torch import Tensor

_MASK = (1 << 64) - 1


class Randomness:
    """Counter-based streams (Philox, Salmon et al. 2011), one an image and step.

    A stream is keyed with (seed, image index) and starts at (step, purpose), so that the same
    image draws the same numbers alone, in any batch, and after a resume.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed & _MASK

    def stream(self, index: int, step: int, purpose: int = 0) -> np.random.Generator:
        """Return the generator of one image at one step."""
        key = np.array([self._seed, index & _MASK], dtype=np.uint64)
        counter = np.array([0, 0, step, purpose], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))

    def uniform(self, indices: list[int], step: int, *shape: int, purpose: int = 0) -> Tensor:
        """Draw float32 in [0, 1), ``(len(indices), *shape)``."""
        out = np.empty((len(indices), *shape), dtype=np.float32)
        for row, index in enumerate(indices):
            self.stream(index, step, purpose).random(out=out[row], dtype=np.float32)
        return torch.from_numpy(out)

    def normal(self, indices: list[int], step: int, *shape: int, purpose: int = 0) -> Tensor:
        """Draw standard normal float32 ``(len(indices), *shape)``."""
        out = np.empty((len(indices), *shape), dtype=np.float32)
        for row, index in enumerate(indices):
            self.stream(index, step, purpose).standard_normal(out=out[row], dtype=np.float32)
        return torch.from_numpy(out)
