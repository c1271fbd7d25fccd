"""Judges designs: who is still recognized behind them, among people never trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.worker.masks.outlines import Shape
from services.worker.masks.projector import put_on
from services.worker.masks.wearers import Wearers
from services.worker.models.recognizers import Recognizer
from services.worker.training.metrics import Rate
from services.worker.training.recognition import (
    accept_rate,
    pair_scores,
    person_similarities,
    probe_sides,
    rank_rate,
    ranks,
    threshold_at,
)

AT_ONCE = 48
FALSE_ACCEPTS = 0.01


@dataclass(frozen=True)
class Recognized:
    """How many wearers a recognizer knows behind one design."""

    rank_1: Rate
    accepted: Rate  # true accepts at a false-accept rate of 1 %, by bare faces' threshold
    similarity: float  # mean, of the probes to their own gallery photos


class MaskJudge:
    """One recognizer, with a gallery of bare faces: the first photo of each person.

    The others are probes. Raises ``ValueError`` when no person has a second photo, or when there
    are too few for a false-accept rate of 1 %.
    """

    def __init__(self, recognizer: Recognizer, wearers: Wearers) -> None:
        self.recognizer, self.wearers = recognizer, wearers
        people = wearers.people.numpy()
        sides = probe_sides(people)
        if not len(sides.probes):
            raise ValueError("nobody has a second photo to be recognized on")
        self.probes, self.people = sides.probes, people[sides.probes]
        self.gallery_people = people[sides.gallery]
        side = recognizer.input_size[0]
        self.gallery = self._embed([wearers.faces(part, side) for part in _parts(sides.gallery)])
        bare = self._embed([wearers.faces(part, side) for part in _parts(self.probes)])
        scores = pair_scores(bare, self.people, self.gallery, self.gallery_people)
        self.threshold = threshold_at(scores.impostor, FALSE_ACCEPTS)
        self.bare = self._figures(bare)

    def wearing(self, designs: Tensor, *, shape: Shape = "surgical") -> Recognized:
        """Return the figures behind designs ``(K, 3, h, w)``, dealt to the probes in turn."""
        side = self.recognizer.input_size[0]
        batches = []
        for start, part in zip(
            range(0, len(self.probes), AT_ONCE), _parts(self.probes), strict=True
        ):
            turn = torch.arange(start, start + len(part)) % len(designs)
            worn = put_on(
                self.wearers.faces(part, side),
                designs[turn],
                self.wearers.fits[part.tolist()],
                shape=shape,
            )
            batches.append(worn)
        return self._figures(self._embed(batches))

    def _figures(self, embeddings: NDArray[np.float32]) -> Recognized:
        similar, who = person_similarities(embeddings, self.gallery, self.gallery_people)
        own = similar[np.arange(len(self.people)), np.searchsorted(who, self.people)]
        return Recognized(
            rank_rate(ranks(similar, who, self.people), 1),
            accept_rate(own, self.threshold),
            float(own.mean()),
        )

    @torch.inference_mode()
    def _embed(self, batches: Sequence[Tensor]) -> NDArray[np.float32]:
        device = next(self.recognizer.parameters()).device
        parts = [self.recognizer.of_frames(batch.to(device)).cpu() for batch in batches]
        return np.asarray(torch.cat(parts).numpy())


def _parts(chosen: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [chosen[start : start + AT_ONCE] for start in range(0, len(chosen), AT_ONCE)]


def random_pattern(seed: int, size: int = 128, cells: int = 16) -> Tensor:
    """Return a design of random colors in squares: what any busy pattern does."""
    generator = torch.Generator().manual_seed(seed)
    colors = torch.rand(1, 3, cells, cells, generator=generator)
    return torch.nn.functional.interpolate(colors, (size, size), mode="nearest")
