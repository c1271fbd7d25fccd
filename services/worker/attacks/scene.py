"""The images still under attack, and the tally of all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from services.worker.attacks.canvas import Canvas
from services.worker.attacks.criteria import Criterion
from services.worker.attacks.oracle import Oracle
from services.worker.attacks.randomness import Randomness
from services.worker.attacks.region import PixelSpace

# Maps the logits of a sub-batch and its rows in the scene to losses.
Loss = Callable[[Tensor, Tensor], Tensor]
T = TypeVar("T")


@dataclass
class Tally:
    """What is known of every image of a run; rows as the images were given.

    ``adversarial`` is the best uint8 image so far, ``met`` whether it met the criterion and
    ``cost`` its rank among images of the same kind; ``logits`` are those of the model as it was
    given, NaN where it was not asked about this image. The rest are counts.
    """

    adversarial: Tensor
    logits: Tensor
    met: Tensor
    cost: Tensor
    queries: Tensor
    gradients: Tensor
    zero_gradients: Tensor
    query_at_success: Tensor

    @classmethod
    def of(cls, images: Tensor, logits: Tensor) -> "Tally":
        """Start from the originals, uint8 ``(N, 3, H, W)``, and their logits ``(N, C)``."""
        counts = [torch.zeros(len(images), dtype=torch.int64) for _ in range(4)]
        met = torch.zeros(len(images), dtype=torch.bool)
        adversarial = images.clone(memory_format=torch.channels_last)  # as the scene's levels are
        cost = torch.full((len(images),), float("inf"))
        return cls(adversarial, logits.clone(), met, cost, *counts)


BORDER = 0.02  # of margins, in logits: about what bfloat16 rounds off


class Scene:
    """What an attack sees: images not finished yet, and the ways to ask about them.

    ``levels`` ``(A, 3, H, W)`` are the originals in 0..255 as float32, ``allowed`` ``(A, H, W)``
    the pixels that may change, ``criterion`` that of these images and ``indices`` their numbers
    for random streams. Rows of all of these agree.
    """

    def __init__(
        self,
        oracle: Oracle,
        images: Tensor,
        *,
        criterion: Criterion,
        allowed: Tensor,
        indices: list[int],
        randomness: Randomness,
        tally: Tally,
        rows: Tensor,
    ) -> None:
        self.oracle = oracle
        self.randomness = randomness
        self.tally = tally
        self._images, self._criterion = images, criterion.to(oracle.device)
        self._allowed, self._indices = allowed, indices
        self.narrow(rows)

    def narrow(self, rows: Tensor) -> None:
        """Keep only the images ``rows`` (numbers among all of the run)."""
        device = self.oracle.device
        self.rows = rows
        self.levels = (
            self._images[rows].to(device).float().contiguous(memory_format=torch.channels_last)
        )
        self.criterion = self._criterion.take(rows.to(device))
        self.allowed = self._allowed[rows].to(device)
        self.indices = [self._indices[row] for row in rows.tolist()]
        self._derived: dict[type, Any] = {}

    def derived(self, kind: type[T], make: Callable[[], T]) -> T:
        """Return what was made from the present images, making it once."""
        if kind not in self._derived:
            self._derived[kind] = make()
        return cast(T, self._derived[kind])

    @property
    def space(self) -> PixelSpace:
        """The positions that pixel attacks may use."""
        return self.derived(PixelSpace, lambda: PixelSpace.of(self.allowed))

    def random(self, step: int, *shape: int, purpose: int = 0) -> Tensor:
        """Draw uniform float32 ``(A, *shape)`` in [0, 1)."""
        drawn = self.randomness.uniform(self.indices, step, *shape, purpose=purpose)
        return drawn.to(self.oracle.device)

    def normal(self, step: int, *shape: int, purpose: int = 0) -> Tensor:
        """Draw standard normal float32 ``(A, *shape)``."""
        drawn = self.randomness.normal(self.indices, step, *shape, purpose=purpose)
        return drawn.to(self.oracle.device)

    def ask(self, levels: Tensor, owners: Tensor | None = None) -> Tensor:
        """Return logits of images in 0..255: one a row, or those of the rows ``owners``."""
        self._count(self.tally.queries, owners)
        return self.oracle.logits(levels / 255)

    def ask_exactly(self, levels: Tensor) -> Tensor:
        """Return logits of images in 0..255, one a row, of the model as it was given."""
        self._count(self.tally.queries, None)
        return self.oracle.confirm(levels / 255)

    def ask_pixels(self, owners: Tensor, positions: Tensor, colors: Tensor) -> Tensor:
        """Return logits of the originals with a few pixels replaced; see ``Canvas.logits``."""
        self._count(self.tally.queries, owners)
        canvas = self.derived(Canvas, lambda: Canvas(self.oracle, self.levels))
        return canvas.logits(owners, positions, colors)

    def gradient(
        self, levels: Tensor, loss: Loss, owners: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return logits and gradients of ``loss(logits, rows)``, at images as for ``ask``.

        The gradients are those with respect to pixels in [0, 1].
        """
        rows = torch.arange(len(levels), device=levels.device) if owners is None else owners
        logits, gradient = self.oracle.gradient(
            levels, lambda answer, part: loss(answer, rows[part])
        )
        # On a CPU this is several times faster than aminmax or the norm of order infinity, and than
        # the largest of absolute values, which would be written first; NaN stays NaN, too.
        flat = gradient.permute(0, 2, 3, 1).flatten(1)
        largest = torch.maximum(-flat.amin(1), flat.amax(1))
        self._count(self.tally.queries, owners)
        self._count(self.tally.gradients, owners)
        # NaN is no direction either.
        self._count(self.tally.zero_gradients, rows[~(largest > 0)])
        if not bool(largest.isfinite().all()):
            gradient.nan_to_num_(0, 0, 0)
        return logits, gradient

    def met(self, levels: Tensor, margin: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return who meets the criterion by ``margin (A,)``, found at one image a row, ``(A,)``.

        Where the search is less exact, float32 decides about those at the border and beyond: the
        same images again, which is no further query. Its logits are returned, too, for ``offer``.
        """
        if not self.oracle.searches_bf16:
            return margin < 0, None
        rows = (margin < BORDER).nonzero()[:, 0]
        found = torch.zeros_like(margin, dtype=torch.bool)
        known = margin.new_full((len(margin), self.tally.logits.shape[1]), torch.nan)
        if len(rows):
            known[rows] = self.oracle.confirm(levels[rows] / 255)
            found[rows] = self.criterion.take(rows).margin(known[rows]) < 0
        return found, known

    def offer(
        self,
        levels: Tensor,
        met: Tensor,
        cost: Tensor,
        *,
        found_at: Tensor | None = None,
        known: Tensor | None = None,
    ) -> None:
        """Offer one image a row, in whole levels; the better one is kept.

        An image that meets the criterion beats one that does not; among equals the lower cost
        wins. ``found_at`` is its query number (default: the last one asked), ``known`` the logits
        of the model as it was given, NaN where it was not asked.
        """
        tally, rows = self.tally, self.rows
        met, cost = met.cpu(), cost.float().cpu()
        first = met & (tally.query_at_success[rows] == 0)
        number = tally.queries[rows] if found_at is None else found_at.cpu()
        tally.query_at_success[rows[first]] = number[first]
        held = tally.met[rows]
        better = (met & ~held) | ((met == held) & (cost < tally.cost[rows]))
        if not bool(better.any()):
            return
        chosen = rows[better]
        if len(chosen) == len(tally.adversarial):
            tally.adversarial.copy_(levels)
        else:
            tally.adversarial[chosen] = levels[better.to(levels.device)].to(torch.uint8).cpu()
        tally.met[chosen], tally.cost[chosen] = met[better], cost[better]
        tally.logits[chosen] = torch.nan if known is None else known.cpu()[better.cpu()]

    def _count(self, counter: Tensor, owners: Tensor | None) -> None:
        if owners is None:
            counter[self.rows] += 1
        else:
            counter[self.rows] += torch.bincount(owners.cpu(), minlength=len(self.rows))
