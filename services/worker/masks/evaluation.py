"""Judges designs: who is still recognized behind them, among people never trained on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from services.worker.evaluation.bootstrap import Interval, bootstrap
from services.worker.evaluation.identification import (
    ProbeSides,
    accept_rate,
    pair_scores,
    person_similarities,
    rank_1_among,
    rank_rate,
    ranks,
    threshold_at,
)
from services.worker.evaluation.metrics import Rate, wilson
from services.worker.masks.designs import Designs
from services.worker.masks.outlines import Shape
from services.worker.masks.wearers import Wearers, gallery
from services.worker.models.recognizers import Recognizer

AT_ONCE = 48
FALSE_ACCEPTS = 0.01


@dataclass(frozen=True, eq=False)
class Recognized:
    """How many wearers a recognizer knows behind one design.

    ``found`` has how many people of a gallery of ``people`` are more similar to each probe than the
    right one, and ``who`` the probes' people, both ``(P,)``.
    """

    rank_1: Rate
    accepted: Rate  # true accepts at a false-accept rate of 1 %, by bare faces' threshold
    similarity: float  # mean, of the probes to their own gallery photos
    found: NDArray[np.integer]
    who: NDArray[np.integer]
    people: int

    def among(self, size: int) -> Interval:
        """Return rank-1 in galleries of so many people, or of all if they are fewer.

        The mean over all such galleries, with a bootstrap interval by person.
        """
        chances = self._chances(size)
        groups = [str(person) for person in self.who]
        return bootstrap(lambda rows: {"rank_1": float(chances[rows].mean())}, groups)["rank_1"]

    def among_value(self, size: int) -> float:
        """Return ``among`` without its interval, which takes longer."""
        return float(self._chances(size).mean())

    def _chances(self, size: int) -> NDArray[np.float64]:
        return rank_1_among(self.found, self.people, min(size, self.people))


def judged_sides(wearers: Wearers, *, enrolled: int = 1) -> ProbeSides:
    """Put each person's first photos, ``enrolled`` at most, into the gallery; the rest are probes.

    One photo at least is left to probe, if the person has two. Where designs replace masks that
    people wear, bare photos come first, and only those that show a mask are probes.
    """
    bare_first = np.argsort(wearers.wearable, kind="stable")
    photos: dict[int, list[int]] = {}
    for index, person in zip(bare_first.tolist(), wearers.people[bare_first].tolist(), strict=True):
        photos.setdefault(person, []).append(index)
    probes: list[int] = []
    known: list[int] = []
    for own in photos.values():
        count = max(1, min(enrolled, len(own) - 1))
        known += own[:count]
        probes += (index for index in own[count:] if wearers.wearable[index])
    return ProbeSides(np.array(sorted(probes), dtype=np.int64), np.array(sorted(known)))


class MaskJudge:
    """One recognizer, with a gallery of bare faces: a mean embedding of each person's.

    Who is a probe and who is in the gallery is ``judged_sides``'. Raises ``ValueError`` when no
    person has a second photo, or when there are too few for a false-accept rate of 1 %.
    """

    def __init__(self, recognizer: Recognizer, wearers: Wearers, *, enrolled: int = 1) -> None:
        self.recognizer, self.wearers = recognizer, wearers
        people = wearers.people.numpy()
        sides = judged_sides(wearers, enrolled=enrolled)
        self.probes = sides.probes
        if not len(self.probes):
            raise ValueError("nobody has a second photo to be recognized on")
        self.people, self.gallery_people = people[self.probes], np.unique(people[sides.gallery])
        side = recognizer.frame_side
        known = wearers.of(sides.gallery.tolist()).renumbered()
        self.gallery = np.asarray(gallery(known, recognizer).numpy())
        bare = self._embed(wearers.faces(part, side) for part in _parts(self.probes))
        scores = pair_scores(bare, self.people, self.gallery, self.gallery_people)
        self.threshold = threshold_at(scores.impostor, FALSE_ACCEPTS)
        self.bare = self._figures(bare)

    def wearing(self, designs: Tensor | Designs, *, shape: Shape = "surgical") -> Recognized:
        """Return the figures behind designs ``(K, 3, h, w)``, dealt to the probes in turn."""
        side = self.recognizer.frame_side
        worn = _worn(self.wearers, self.probes, designs, side, shape)
        return self._figures(self._embed(worn))

    def _figures(self, embeddings: NDArray[np.float32]) -> Recognized:
        similar, who = person_similarities(embeddings, self.gallery, self.gallery_people)
        own = similar[np.arange(len(self.people)), np.searchsorted(who, self.people)]
        found = ranks(similar, who, self.people)
        return Recognized(
            rank_rate(found, 1),
            accept_rate(own, self.threshold),
            float(own.mean()),
            found,
            self.people,
            len(who),
        )

    @torch.inference_mode()
    def _embed(self, batches: Iterable[Tensor]) -> NDArray[np.float32]:
        device = self.recognizer.device
        parts = [self.recognizer.of_frames(batch.to(device)).cpu() for batch in batches]
        return np.asarray(torch.cat(parts).numpy())


def _worn(
    wearers: Wearers,
    chosen: NDArray[np.int64],
    designs: Tensor | Designs,
    side: int,
    shape: Shape,
) -> Iterator[Tensor]:
    dealt = designs if isinstance(designs, Designs) else Designs(designs)
    for start, part in zip(range(0, len(chosen), AT_ONCE), _parts(chosen), strict=True):
        numbers = torch.arange(start, start + len(part))
        faces, people = wearers.faces(part, side), wearers.people[part]
        yield wearers.wear(faces, part, dealt.of(numbers, people), shape=shape)


@torch.inference_mode()
def named_right(
    wearers: Wearers,
    recognizer: Recognizer,
    head: nn.Module,
    designs: Tensor | Designs | None,
    *,
    shape: Shape = "surgical",
) -> Rate:
    """Return how many photos a discriminator names the right person on.

    ``head`` maps embeddings ``(N, D)`` to logits of the wearers' people, ``(N, P)``; ``designs``
    are dealt in turn, ``None``: the photos as they are.
    """
    device, side = recognizer.device, recognizer.frame_side
    chosen = np.flatnonzero(wearers.wearable)
    batches: Iterable[Tensor] = (wearers.faces(part, side) for part in _parts(chosen))
    if designs is not None:
        batches = _worn(wearers, chosen, designs, side, shape)
    named = [head(recognizer.of_frames(batch.to(device))).argmax(1).cpu() for batch in batches]
    right = torch.cat(named) == wearers.people[chosen]
    return wilson(int(right.sum()), len(chosen))


def _parts(chosen: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [chosen[start : start + AT_ONCE] for start in range(0, len(chosen), AT_ONCE)]


def random_pattern(seed: int, size: int = 128, cells: int = 16) -> Tensor:
    """Return a design of random colors in squares: what any busy pattern does."""
    generator = torch.Generator().manual_seed(seed)
    colors = torch.rand(1, 3, cells, cells, generator=generator)
    return torch.nn.functional.interpolate(colors, (size, size), mode="nearest")
