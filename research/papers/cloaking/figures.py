"""What is measured of cloaked portraits: identification and verification by each recognizer."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from research.papers.cloaking.portraits import VARIANTS, Changed, Portrait
from services.worker.evaluation.identification import (
    accept_rate,
    pair_scores,
    person_similarities,
    rank_rate,
    ranks,
    threshold_at,
)
from services.worker.evaluation.metrics import Rate
from services.worker.models.recognizers import Recognizer

SURROGATE, JUDGE = "face-student-112", "face-residual-112"
STRONG = ("dlib-resnet-v1", "mobilefacenet_ms1m")  # of two lineages: the search uses both
EXCHANGED = "high"  # the preset whose photos are put into the gallery, too
FALSE_ACCEPTS = (0.01, 0.001)


@dataclass(frozen=True)
class Figures:
    """How well one recognizer knows the probes."""

    rank_1: Rate
    rank_5: Rate
    # At each of FALSE_ACCEPTS, by thresholds of clean photos; None: too few people to set one.
    accepted: tuple[Rate | None, ...]
    similarity: float  # mean, of the probes to their own person's gallery photo


@dataclass(frozen=True)
class Crowd:
    """Everyone's portraits."""

    probes: list[Portrait]
    gallery: list[Portrait]
    distractors: list[Portrait]


class Judging:
    """One recognizer with the gallery of clean photos, and thresholds from those."""

    def __init__(self, recognizer: Recognizer, crowd: Crowd) -> None:
        self.recognizer = recognizer
        self.people = np.arange(len(crowd.probes))
        strangers = len(self.people) + np.arange(len(crowd.distractors))
        self.gallery_people = np.concatenate([self.people, strangers])
        everyone = self.embed(frames_of([*crowd.gallery, *crowd.distractors]))
        self.gallery, self.distractors = np.split(everyone, [len(self.people)])
        clean = self.embed(frames_of(crowd.probes))
        scores = pair_scores(clean, self.people, everyone, self.gallery_people)
        self.thresholds = [
            threshold_at(scores.impostor, rate) if len(scores.impostor) * rate >= 1 else None
            for rate in FALSE_ACCEPTS
        ]

    @torch.inference_mode()
    def embed(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed frames ``(N, 160, 160, 3)``."""
        parts = [
            self.recognizer.of_frames(
                torch.from_numpy(frames[start : start + 64]).permute(0, 3, 1, 2).float() / 255
            ).numpy()
            for start in range(0, len(frames), 64)
        ]
        return np.concatenate(parts)

    def figures(
        self, probes: NDArray[np.uint8], gallery: NDArray[np.uint8] | None = None
    ) -> Figures:
        """Judge probe frames, of the first people or all, against the clean gallery or another."""
        mine = self.gallery if gallery is None else self.embed(gallery)
        extra = [] if gallery is None or len(gallery) == len(self.people) else [self.people]
        people = np.concatenate([self.people, *extra, self.gallery_people[len(self.people) :]])
        everyone = np.concatenate([mine, self.distractors])
        embeddings = self.embed(probes)
        similar, who = person_similarities(embeddings, everyone, people)
        probed = self.people[: len(embeddings)]
        found = ranks(similar, who, probed)
        own = similar[np.arange(len(probed)), np.searchsorted(who, probed)]
        return Figures(
            rank_rate(found, 1),
            rank_rate(found, 5),
            tuple(
                None if threshold is None else accept_rate(own, threshold)
                for threshold in self.thresholds
            ),
            float(own.mean()),
        )


def frames_of(portraits: Sequence[Portrait]) -> NDArray[np.uint8]:
    """Cut the aligned faces of portraits."""
    return np.stack([one.frame for one in portraits])


@dataclass(frozen=True)
class CloakRow:
    """One change of the probes, judged by every recognizer.

    ``searched`` names the recognizers that the search used: none, for what is no cloak.
    """

    name: str
    changed: Changed
    figures: dict[str, dict[str, Figures]]  # by recognizer, then by variant
    searched: tuple[str, ...] = ()


def judge_all(
    name: str, changed: Changed, judges: Sequence[Judging], searched: Sequence[str] = ()
) -> CloakRow:
    """Judge the delivered photos and their copies."""
    delivered = changed.frames[:, VARIANTS.index("delivered")]
    copies = {variant: changed.frames[:, place] for place, variant in enumerate(VARIANTS)}
    copies |= {
        "median": np.stack([cv2.medianBlur(frame, 3) for frame in delivered]),
        "denoised": np.stack(
            [cv2.fastNlMeansDenoisingColored(frame, None, 5, 5, 5, 15) for frame in delivered]
        ),
    }
    figures = {
        one.recognizer.identifier: {
            variant: one.figures(np.asarray(frames, dtype=np.uint8))
            for variant, frames in copies.items()
        }
        for one in judges
    }
    return CloakRow(name, changed, figures, tuple(searched))
