"""Randomized smoothing with its certificate.

Cohen, Rosenfeld and Kolter, "Certified Adversarial Robustness via Randomized Smoothing", ICML
2019. The smoothed classifier answers with the class that the base classifier gives most often
under Gaussian noise; if that class has probability at least p > 1/2, no perturbation of L2 norm
below sigma * Phi^-1(p) changes the answer.
"""

from dataclasses import dataclass, replace

import torch
from scipy.stats import beta, binomtest, norm
from torch import Tensor, nn

from services.worker.defenses.base import derive
from services.worker.defenses.noise import Noise
from services.worker.defenses.pixels import check_images
from services.worker.stopping import CancelCheck


@dataclass(frozen=True)
class Certificate:
    """The smoothed answer for one image.

    label: class index, or ``None`` where the classifier abstains.
    radius: L2 norm, in the range [0, 1] of a value, below which no perturbation changes ``label``;
        0 where it abstains. It holds with probability ``1 - alpha``.
    probability: lower confidence bound of the class's probability under noise.
    votes: how many of the draws that the bound rests on gave each class.
    """

    label: int | None
    radius: float
    probability: float
    votes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Smoothing:
    """A classifier ``(N, 3, H, W) -> logits`` under Gaussian noise of standard deviation ``sigma``.

    Raises ``ValueError`` for a sigma, alpha or batch that cannot be used.
    """

    classifier: nn.Module
    sigma: float = 0.12
    alpha: float = 0.001
    batch: int = 256

    def __post_init__(self) -> None:
        Noise(sigma=self.sigma)
        if not 0 < self.alpha < 0.5:
            raise ValueError(f"an alpha of {self.alpha} cannot be used: take one in (0, 0.5)")
        if self.batch < 1:
            raise ValueError("smoothing needs a batch of at least one")

    def predict(
        self,
        image: Tensor,
        *,
        samples: int = 100,
        seed: int = 0,
        index: int = 0,
        check_cancel: CancelCheck | None = None,
    ) -> int | None:
        """Return the class of an image ``(3, H, W)``, or ``None`` (abstain).

        Abstains unless the most frequent class beats the second at level ``alpha``; the answer is
        then wrong with at most that probability.
        """
        counts = self._count(image, samples, derive(seed, index), check_cancel)
        return prediction(counts, alpha=self.alpha)

    def certify(
        self,
        image: Tensor,
        *,
        selection: int = 100,
        samples: int = 1000,
        seed: int = 0,
        index: int = 0,
        check_cancel: CancelCheck | None = None,
    ) -> Certificate:
        """Choose a class by ``selection`` draws and bound its probability by ``samples`` others."""
        chosen = int(self._count(image, selection, derive(seed, index, 0), check_cancel).argmax())
        counts = self._count(image, samples, derive(seed, index, 1), check_cancel)
        found = certificate(
            chosen, int(counts[chosen]), samples, sigma=self.sigma, alpha=self.alpha
        )
        return replace(found, votes=tuple(counts.tolist()))

    @torch.no_grad()
    def _count(
        self, image: Tensor, samples: int, seed: int, check_cancel: CancelCheck | None
    ) -> Tensor:
        check_images(image[None])
        if samples < 1:
            raise ValueError("smoothing needs at least one sample")
        noise = Noise(sigma=self.sigma)
        votes = []
        for start in range(0, samples, self.batch):
            if check_cancel is not None:
                check_cancel()
            numbers = range(start, min(start + self.batch, samples))
            noisy = noise.apply(image.expand(len(numbers), -1, -1, -1), seed=seed, indices=numbers)
            logits = self.classifier(noisy)
            votes.append(torch.bincount(logits.argmax(1), minlength=logits.shape[1]))
        return torch.stack(votes).sum(0)


class RandomizedSmoothing(Noise):
    """Randomized smoothing by name: noise before the classifier, and its most frequent answer.

    As a transformation it is one draw of the noise; ``of`` makes the smoothed classifier. In a
    chain it comes last: its certificate is one for the picture as it reaches the noise.
    """

    name = "smoothing"

    def __init__(
        self,
        *,
        sigma: float = 0.12,
        alpha: float = 0.001,
        selection: int = 100,
        samples: int = 1000,
    ) -> None:
        super().__init__(sigma=sigma)
        if selection < 1 or samples < 1:
            raise ValueError("smoothing needs at least one sample, to select and to certify")
        self.alpha, self.selection, self.samples = alpha, selection, samples
        self.of(nn.Identity())

    def of(self, classifier: nn.Module) -> Smoothing:
        """Return the smoothed form of ``classifier``."""
        return Smoothing(classifier, sigma=self.sigma, alpha=self.alpha)


def prediction(votes: Tensor, *, alpha: float) -> int | None:
    """Return the class that ``votes (C,)`` show to be the most frequent; ``None``: abstain."""
    first, second = votes.topk(2).values.tolist()
    if binomtest(first, first + second, 0.5).pvalue > alpha:
        return None
    return int(votes.argmax())


def certificate(label: int, hits: int, samples: int, *, sigma: float, alpha: float) -> Certificate:
    """Return the certificate of a class hit ``hits`` times in ``samples`` draws.

    The bound is the one-sided one of Clopper and Pearson (1934).
    """
    if not 0 <= hits <= samples or samples < 1:
        raise ValueError(f"{hits} hits in {samples} samples is no count")
    probability = float(beta.ppf(alpha, hits, samples - hits + 1)) if hits else 0.0
    if probability <= 0.5:
        return Certificate(label=None, radius=0.0, probability=probability)
    return Certificate(
        label=label, radius=float(sigma * norm.ppf(probability)), probability=probability
    )
