"""What a row of a robustness table is about: a model, a defense in front, and pictures."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import one_hot

from services.worker.defenses.base import Chain, Defense, FixedDefense, derive
from services.worker.defenses.pixels import to_grid
from services.worker.defenses.smoothing import (
    Certificate,
    RandomizedSmoothing,
    certificate,
    prediction,
)
from services.worker.defenses.through import DefendedClassifier
from services.worker.models.base import Classifier
from services.worker.stopping import CancelCheck

COST_BATCH = 16
COST_ROUNDS = 3
JUDGED = 10
NO_LABEL = -1

# What draws are for: each use has its own, so that an attack never meets those that judge it.
ATTACKING, JUDGING, CERTIFYING = 0, 1, 2


class Shrink(FixedDefense):
    """Plain bilinear resizing: what stands in the place of a defense that resizes."""

    name = "shrink"

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def transform(self, images: Tensor) -> Tensor:
        return to_grid(self._resized(images))

    def differentiable(
        self, images: Tensor, *, seed: int = 0, indices: Sequence[int] | None = None
    ) -> Tensor:
        del seed, indices
        # Its own gradient is known; rounding is passed over.
        return self._resized(images)

    def _resized(self, images: Tensor) -> Tensor:
        resized: Tensor = functional.interpolate(
            images, self.size, mode="bilinear", antialias=True, align_corners=False
        )
        return resized.clamp(0, 1)


class AnySize(nn.Module):
    """A classifier of pictures of any size, for defenses that look at it before they resize."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of pictures, resized where their size is not the model's."""
        if tuple(images.shape[-2:]) != tuple(self.classifier.input_size):
            images = Shrink(self.classifier.input_size).transform(images)
        logits: Tensor = self.classifier(images)
        return logits


@dataclass(frozen=True)
class Answers:
    """What a defended classifier answers to ``N`` images.

    labels: ``(N,)``; of a random defense the class of more than half of the draws, of a smoothed
        classifier the certain one, and ``NO_LABEL`` where there is none.
    votes: ``(N, C)``, how many draws gave each class; of a fixed defense one.
    """

    labels: Tensor
    votes: Tensor

    def right(self, labels: Tensor) -> Tensor:
        """Return which images ``(N,)`` are labeled right."""
        return self.labels == labels

    def share(self, labels: Tensor) -> Tensor:
        """Return the share ``(N,)`` of the draws that are right, float64."""
        hits = self.votes.gather(1, labels[:, None])[:, 0]
        return hits.double() / self.votes.sum(1)


@dataclass(frozen=True)
class Setting:
    """A classifier, the pictures' side in pixels, and the defense (``None``: none) between them.

    Attacks average ``draws`` of a random defense (EOT). An image is judged by ``judged`` single
    draws that the attack never saw: an attack keeps what fooled one draw, so that its own would
    overstate its success. Randomized smoothing is judged by its own rule and number of draws.
    """

    classifier: Classifier
    side: int
    defense: Defense | None = None
    draws: int = 1
    judged: int = JUDGED

    @property
    def random(self) -> bool:
        """Whether the defense draws at random."""
        return self.defense is not None and not self.defense.deterministic

    @property
    def smoothing(self) -> RandomizedSmoothing | None:
        """Randomized smoothing, where the defense is or ends with it."""
        last = self.defense.defenses[-1] if isinstance(self.defense, Chain) else self.defense
        return last if isinstance(last, RandomizedSmoothing) else None

    @property
    def draws_used(self) -> int:
        """How often a query of an attack passes through the defense and the model."""
        return self.draws if self.random else 1

    @property
    def draws_judged(self) -> int:
        """How many draws an image is judged by."""
        if self.smoothing is not None:
            return self.smoothing.selection
        return self.judged if self.random else 1

    def target(self, *, seed: int) -> Classifier:
        """Return what is classified with and attacked: the model with all that precedes it."""
        between: list[Defense] = [] if self.defense is None else [self.defense]
        inner = self.classifier.input_size
        if self.defense is None and (self.side, self.side) != inner:
            between = [Shrink(inner)]
        if not between:
            return self.classifier
        defense = between[0] if len(between) == 1 else Chain(between)
        made = DefendedClassifier(
            self.classifier,
            defense,
            input_size=(self.side, self.side),
            draws=self.draws,
            seed=seed,
        )
        return made.eval()

    def answers(
        self,
        images: Tensor,
        *,
        seed: int,
        first: int = 0,
        check_cancel: CancelCheck | None = None,
    ) -> Answers:
        """Return the answers to uint8 images; ``first`` numbers the first one for the draws."""
        votes = self._votes(images, self.draws_judged, derive(seed, JUDGING), first, check_cancel)
        if self.smoothing is not None:
            certain = [prediction(row, alpha=self.smoothing.alpha) for row in votes]
            labels = [NO_LABEL if label is None else label for label in certain]
            return Answers(torch.tensor(labels, dtype=torch.long), votes)
        most, best = votes.max(1) if len(votes) else (votes.sum(1), votes.sum(1))
        return Answers(torch.where(2 * most > self.draws_judged, best, NO_LABEL), votes)

    def certify(
        self,
        images: Tensor,
        *,
        seed: int,
        first: int = 0,
        check_cancel: CancelCheck | None = None,
    ) -> list[Certificate]:
        """Return the certificates of uint8 images, of the pictures as they reach the noise.

        Raises ``ValueError`` where nothing is smoothed.
        """
        if self.smoothing is None:
            raise ValueError("only randomized smoothing certifies")
        chosen = self._votes(
            images, self.smoothing.selection, derive(seed, JUDGING), first, check_cancel
        ).argmax(1)
        samples = self.smoothing.samples
        votes = self._votes(images, samples, derive(seed, CERTIFYING), first, check_cancel)
        return [
            certificate(
                int(label),
                int(row[label]),
                samples,
                sigma=self.smoothing.sigma,
                alpha=self.smoothing.alpha,
            )
            for label, row in zip(chosen, votes, strict=True)
        ]

    @torch.inference_mode()
    def draw_ms(self, images: Tensor) -> float:
        """Return the milliseconds that one draw of an image takes: the best of three."""
        device = next(self.classifier.parameters()).device
        part = images[:COST_BATCH].to(device).float() / 255
        single, times = replace(self, draws=1).target(seed=0), []
        for _ in range(1 + COST_ROUNDS):
            began = time.perf_counter()
            single(part).cpu()
            times.append(time.perf_counter() - began)
        return 1000 * min(times[1:]) / len(part)

    def cost_ms(self, images: Tensor) -> float:
        """Return the milliseconds an image takes in service, the defense included.

        A random defense draws once; a smoothed classifier needs all draws of an answer.
        """
        return self.draw_ms(images) * (1 if self.smoothing is None else self.draws_judged)

    @torch.inference_mode()
    def _votes(
        self,
        images: Tensor,
        draws: int,
        seed: int,
        first: int,
        check_cancel: CancelCheck | None,
    ) -> Tensor:
        """Return how many of ``draws`` gave each class, ``(N, C)``."""
        device = next(self.classifier.parameters()).device
        fixed, drawn = self._halves()
        votes = torch.zeros(len(images), len(self.classifier.classes), dtype=torch.long)
        for start in range(0, len(images), COST_BATCH):
            part = images[start : start + COST_BATCH].to(device).float() / 255
            indices = range(first + start, first + start + len(part))
            if fixed is not None:
                part = fixed.apply(part)
            for draw in range(draws):
                if check_cancel is not None:
                    check_cancel()
                seen = part
                if drawn is not None:
                    seen = drawn.apply(part, seed=derive(seed, draw), indices=indices)
                given = self.classifier(seen).argmax(1).cpu()
                votes[start : start + len(part)] += one_hot(given, votes.shape[1])
        return votes

    def _halves(self) -> tuple[Defense | None, Defense | None]:
        """Return what is applied once to a picture, and what is drawn each time."""
        if self.defense is None:
            inner = self.classifier.input_size
            return (Shrink(inner) if (self.side, self.side) != inner else None), None
        steps = self.defense.defenses if isinstance(self.defense, Chain) else (self.defense,)
        fixed = tuple(takewhile(lambda step: step.deterministic, steps))
        drawn = steps[len(fixed) :]
        return (Chain(fixed) if fixed else None), (Chain(drawn) if drawn else None)
