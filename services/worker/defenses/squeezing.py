"""Feature squeezing and the detector made of it.

Xu, Evans and Qi, "Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks", NDSS
2018: a legitimate image is classified the same before and after squeezing, an adversarial one
often is not. The score is the largest L1 distance between the class probabilities of the image and
those of its squeezed versions, 0 to 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from services.worker.defenses.base import Defense
from services.worker.defenses.filters import BitDepth, MedianFilter, NonLocalMeans
from services.worker.stopping import CancelCheck


@dataclass(frozen=True)
class Detection:
    """What a detector says of images: ``suspicious (N,)`` where ``scores (N,) > threshold``."""

    scores: Tensor
    suspicious: Tensor
    threshold: float


@dataclass(frozen=True)
class Calibration:
    """The threshold and the rate of false alarms on the clean images that it was set on."""

    threshold: float
    false_positive_rate: float
    images: int


class SqueezingDetector:
    """Reports images whose classification changes under squeezing.

    ``squeezers`` default to the best joint detector of the paper: 5 bits, a 2x2 median and
    non-local means. Random squeezers are drawn with ``seed``.
    """

    def __init__(
        self,
        classifier: nn.Module,
        *,
        squeezers: Sequence[Defense] | None = None,
        batch: int = 64,
        seed: int = 0,
    ) -> None:
        if squeezers is None:
            squeezers = (BitDepth(bits=5), MedianFilter(size=2), NonLocalMeans())
        if not squeezers:
            raise ValueError("the detector needs at least one squeezer")
        if batch < 1:
            raise ValueError("the detector needs a batch of at least one")
        self.classifier = classifier
        self.squeezers = tuple(squeezers)
        self.batch, self.seed = batch, seed

    @torch.no_grad()
    def score(self, images: Tensor, *, check_cancel: CancelCheck | None = None) -> Tensor:
        """Return the scores ``(N,)`` of images ``(N, 3, H, W)``."""
        scores = []
        for start in range(0, len(images), self.batch):
            if check_cancel is not None:
                check_cancel()
            part = images[start : start + self.batch]
            indices = range(start, start + len(part))
            plain = self.classifier(part).softmax(1)
            distances = [
                (
                    self.classifier(squeezer.apply(part, seed=self.seed, indices=indices)).softmax(
                        1
                    )
                    - plain
                )
                .abs()
                .sum(1)
                for squeezer in self.squeezers
            ]
            scores.append(torch.stack(distances).amax(0))
        if not scores:
            raise ValueError("there are no images to score")
        return torch.cat(scores)

    def calibrate(self, clean: Tensor, *, false_positive_rate: float = 0.05) -> Calibration:
        """Return the lowest threshold with at most ``false_positive_rate`` alarms on ``clean``.

        Raises ``ValueError`` for a rate outside [0, 1) or no images.
        """
        if not 0 <= false_positive_rate < 1:
            raise ValueError(
                f"a false-positive rate of {false_positive_rate} cannot be used: take one in [0, 1)"
            )
        scores = self.score(clean).sort(descending=True).values
        threshold = float(scores[int(false_positive_rate * len(scores))])
        alarms = int((scores > threshold).sum()) / len(scores)
        return Calibration(threshold=threshold, false_positive_rate=alarms, images=len(scores))

    def detect(self, images: Tensor, *, threshold: float) -> Detection:
        """Compare the scores of images with a calibrated threshold."""
        scores = self.score(images)
        return Detection(scores=scores, suspicious=scores > threshold, threshold=threshold)
