"""Finds single pixels that hold a classification and paints them over.

A one-pixel attack leaves a value unlike its surroundings whose removal changes the output. Both
marks are used: pixels far from the median of their neighborhood are candidates; each candidate is
painted over, all variants of an image in one batch, and the one that weakens the answer most is
taken; then the next with that one gone, because the pixels of an n-pixel attack hold an answer
together. They are suspicious if, together, they move the class probabilities by a threshold.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from services.worker.defenses.base import FixedDefense
from services.worker.defenses.filters import MedianFilter
from services.worker.defenses.pixels import check_images, to_grid
from services.worker.stopping import CancelCheck


@dataclass(frozen=True)
class Repair:
    """Repaired images and, for each image, the pixels painted over.

    images: ``(N, 3, H, W)``.
    positions: one int64 tensor ``(K, 2)`` of (row, column) an image, in the order found.
    effects: one tensor ``(K,)`` an image: L1 change of the class probabilities, 0 to 2, with this
        pixel and those before it painted over.
    """

    images: Tensor
    positions: tuple[Tensor, ...]
    effects: tuple[Tensor, ...]


class PixelRepair(FixedDefense):
    """Repairs up to ``pixels`` pixels an image, found in as many rounds.

    ``candidates`` pixels are tried: those farthest from the median of their 3x3 neighborhood, and
    by ``contrast`` at least (in any channel, of the range [0, 1]). An image whose class
    probabilities move by less than ``threshold`` (L1, 0 to 2) is left alone.
    """

    name = "pixel_repair"

    def __init__(
        self,
        classifier: nn.Module,
        *,
        pixels: int = 5,
        candidates: int = 32,
        contrast: float = 0.15,
        threshold: float = 0.1,
        batch: int = 512,
    ) -> None:
        if not 1 <= pixels <= candidates:
            raise ValueError("pixel repair needs 1 <= pixels <= candidates")
        if not 0 <= contrast <= 1 or not 0 <= threshold <= 2:
            raise ValueError("a contrast is in [0, 1] and a threshold in [0, 2]")
        if batch < 1:
            raise ValueError("pixel repair needs a batch of at least one")
        self.classifier = classifier
        self.pixels, self.candidates = pixels, candidates
        self.contrast, self.threshold, self.batch = contrast, threshold, batch
        self._median = MedianFilter(size=3)

    def transform(self, images: Tensor) -> Tensor:
        return self.repair(images).images

    @torch.no_grad()
    def repair(self, images: Tensor, *, check_cancel: CancelCheck | None = None) -> Repair:
        """Return the repaired images with the positions and effects of the pixels found."""
        check_images(images)
        images = to_grid(images.detach())
        medians = self._median.apply(images)
        found = [
            self._repair_one(*pair, check_cancel) for pair in zip(images, medians, strict=True)
        ]
        repaired, positions, effects = zip(*found, strict=True)
        return Repair(images=torch.stack(repaired), positions=positions, effects=effects)

    def _repair_one(
        self, image: Tensor, median: Tensor, check_cancel: CancelCheck | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        distance = (image - median).abs().amax(0).flatten()
        order = distance.argsort(descending=True, stable=True)[: self.candidates]
        left = order[distance[order] >= max(self.contrast, 1 / 255)]
        before = self.classifier(image[None]).softmax(1)[0]
        answer = int(before.argmax())
        versions, found, effects = [image], [], []
        for _ in range(min(self.pixels, len(left))):
            if check_cancel is not None:
                check_cancel()
            logits = self._logits(_paint(versions[-1], median, left))
            best = int(_margin(logits, answer).argmin())
            versions.append(_paint(versions[-1], median, left[best : best + 1])[0])
            found.append(left[best])
            effects.append((logits[best].softmax(0) - before).abs().sum())
            left = torch.cat([left[:best], left[best + 1 :]])
        count = self._how_many(effects)
        flat = torch.stack([*found, order[0]])[:count]  # never an empty stack
        positions = torch.stack([flat // image.shape[2], flat % image.shape[2]], dim=1)
        return versions[count], positions, before.new_tensor(effects[:count])

    def _how_many(self, effects: list[Tensor]) -> int:
        """Return the fewest pixels with nearly the whole effect, 0 if it is below the threshold."""
        most = max(effects, default=torch.tensor(0.0))
        if not effects or most < self.threshold:
            return 0
        return 1 + next(number for number, effect in enumerate(effects) if effect >= 0.9 * most)

    def _logits(self, images: Tensor) -> Tensor:
        return torch.cat([self.classifier(part) for part in images.split(self.batch)])


def _margin(logits: Tensor, answer: int) -> Tensor:
    """Return how far ``answer`` leads: unlike probabilities, logits show it when it is certain."""
    others = torch.cat([logits[:, :answer], logits[:, answer + 1 :]], dim=1)
    return logits[:, answer] - others.amax(1)


def _paint(image: Tensor, median: Tensor, pixels: Tensor) -> Tensor:
    """Return one copy of ``image`` for each of ``pixels``, that pixel replaced by the median."""
    copies = image.flatten(1).repeat(len(pixels), 1, 1)
    numbers = torch.arange(len(pixels), device=image.device)
    copies[numbers, :, pixels] = median.flatten(1)[:, pixels].T
    painted: Tensor = copies.reshape(len(pixels), *image.shape)
    return painted
