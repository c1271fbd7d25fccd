"""Box-constrained L-BFGS, the first adversarial attack (Szegedy et al. 2013)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize
from torch import Tensor

from services.worker.attacks.base import Attack, State
from services.worker.attacks.minimal import bisect, offer_smallest
from services.worker.attacks.scene import Scene

Vector = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LBFGS(Attack):
    """Minimize ``|x' - x|² + c loss(x')`` over the box, for several c.

    ``c`` starts at ``initial_c``, grows tenfold until an image fools the model and is then
    bisected: ``searches`` rounds of at most ``iterations`` iterations. Images are minimized one by
    one (the optimizer is SciPy's L-BFGS-B), rounded to 8 bits, checked, and shortened by
    ``refine`` queries.
    """

    name = "lbfgs"
    uses_gradients = True

    searches: int = 8
    iterations: int = 20
    initial_c: float = 0.01
    refine: int = 8

    @property
    def total_steps(self) -> int:
        return self.searches

    def begin(self, scene: Scene) -> State:
        count, device = len(scene.rows), scene.levels.device
        return {
            "c": torch.full((count,), self.initial_c, device=device),
            "low": torch.zeros(count, device=device),
            "high": torch.full((count,), float("inf"), device=device),
        }

    def step(self, scene: Scene, state: State, number: int) -> Tensor:
        del number
        found = [self._minimize(scene, row, c) for row, c in enumerate(state["c"].tolist())]
        shown = torch.stack(found).contiguous(memory_format=torch.channels_last)
        margin = scene.criterion.margin(scene.ask(shown))
        offer_smallest(scene, shown, margin)
        met = margin < 0
        if bool(met.any()) and self.refine:
            bisect(scene, shown[met], rows=met.nonzero()[:, 0], rounds=self.refine)
        state["high"] = torch.where(met, state["c"], state["high"])
        state["low"] = torch.where(met, state["low"], state["c"])
        middle = (state["low"] + state["high"]) / 2
        state["c"] = torch.where(state["high"].isfinite(), middle, state["c"] * 10)
        return torch.zeros_like(met)

    def _minimize(self, scene: Scene, row: int, c: float) -> Tensor:
        """Return the whole levels ``(3, H, W)`` that one c leads to."""
        clean = scene.levels[row].contiguous()
        start = clean.double().flatten().cpu().numpy() / 255
        free = scene.allowed[row].expand_as(clean).flatten().cpu().numpy()
        owner = torch.tensor([row], device=clean.device)
        criterion = scene.criterion

        def loss(logits: Tensor, rows: Tensor) -> Tensor:
            return criterion.take(rows).cross_entropy(logits)

        def objective(pixels: Vector) -> tuple[float, Vector]:
            levels = torch.from_numpy(pixels * 255).to(clean.device).float().view(1, *clean.shape)
            logits, gradient = scene.gradient(levels, loss, owner)
            change = pixels - start
            slope = gradient.contiguous().double().flatten().cpu().numpy()
            value = float(change @ change) - c * float(loss(logits, owner))
            return value, 2 * change - c * slope

        bounds = optimize.Bounds(np.where(free, 0.0, start), np.where(free, 1.0, start))
        result = optimize.minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": self.iterations},
        )
        levels = torch.from_numpy(result.x * 255).to(clean.device).float()
        return levels.round().view(clean.shape)
