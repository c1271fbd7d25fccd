"""How well a recognizer tells people apart: identification and verification.

Probes are compared with a gallery of photos of known people. A person is as similar to a probe as
the most similar of that person's gallery photos. The photo itself is never in the gallery.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.worker.evaluation.metrics import Rate, wilson

Embeddings = NDArray[np.float32]
People = NDArray[np.integer]


@dataclass(frozen=True)
class ProbeSides:
    """Which faces are probes and which are the gallery; indices into one list of faces."""

    probes: NDArray[np.int64]
    gallery: NDArray[np.int64]


def probe_sides(people: People, *, distractors: int = 0, gallery_photos: int = 1) -> ProbeSides:
    """Put the first photos of each person into the gallery and the others among the probes.

    ``distractors`` further faces behind the people's are in the gallery only: people whom no probe
    shows, for an open set.
    """
    seen = np.zeros(int(people.max()) + 1, dtype=int) if len(people) else np.zeros(0, dtype=int)
    probes: list[int] = []
    gallery: list[int] = []
    for index, person in enumerate(people):
        (gallery if seen[person] < gallery_photos else probes).append(index)
        seen[person] += 1
    gallery += range(len(people), len(people) + distractors)
    return ProbeSides(np.array(probes, dtype=np.int64), np.array(gallery, dtype=np.int64))


def person_similarities(
    probes: Embeddings, gallery: Embeddings, gallery_people: People
) -> tuple[NDArray[np.float32], People]:
    """Return ``(P, K)`` similarities to the gallery's people, and who these are ``(K,)``."""
    who, first = np.unique(gallery_people, return_inverse=True)
    similar = probes @ gallery.T
    best = np.full((len(probes), len(who)), -np.inf, dtype=np.float32)
    for column, person in enumerate(first):
        np.maximum(best[:, person], similar[:, column], out=best[:, person])
    return best, who


def ranks(similarities: NDArray[np.float32], who: People, probe_people: People) -> People:
    """Return how many people are more similar to each probe than the right one, ``(P,)``.

    Someone exactly as similar counts as more similar: a recognizer that says the same of everyone
    identifies nobody. Raises ``ValueError`` when a probe's person is not in the gallery.
    """
    if not np.isin(probe_people, who).all():
        raise ValueError("some probe's person has no photo in the gallery")
    column = np.searchsorted(who, probe_people)
    own = similarities[np.arange(len(probe_people)), column]
    return np.asarray((similarities >= own[:, None]).sum(1) - 1, dtype=np.int64)


def leave_one_out(embeddings: Embeddings, people: People) -> People:
    """Return each photo's rank against a gallery of all other photos, ``(N,)``.

    Raises ``ValueError`` when someone has one photo only.
    """
    if (np.bincount(people)[people] < 2).any():
        raise ValueError("everyone needs at least two photos")
    similar = embeddings @ embeddings.T
    np.fill_diagonal(similar, -np.inf)
    best = np.full((len(people), int(people.max()) + 1), -np.inf, dtype=np.float32)
    for column, person in enumerate(people):
        np.maximum(best[:, person], similar[:, column], out=best[:, person])
    return ranks(best, np.arange(best.shape[1]), people)


def rank_rate(found: People, rank: int) -> Rate:
    """Return the share of probes whose person is among the ``rank`` most similar ones."""
    return wilson(int((found < rank).sum()), len(found))


def rank_1_among(found: People, people: int, size: int) -> NDArray[np.float64]:
    """Return each probe's chance of rank 1 in a gallery of ``size`` of these people, ``(P,)``.

    The right person and others drawn at random: the mean over all such galleries, not over some.
    ``found`` are ``ranks`` in the gallery of all. Raises ``ValueError`` for a size out of range.
    """
    if not 1 <= size <= people:
        raise ValueError(f"no gallery of {size} among {people} people")
    all_of_them = math.comb(people - 1, size - 1)
    chances = [math.comb(people - 1 - int(rank), size - 1) / all_of_them for rank in found]
    return np.array(chances, dtype=np.float64)


def threshold_at(impostors: NDArray[np.floating], false_accepts: float) -> float:
    """Return the similarity that at most this share of impostor scores exceeds.

    Raises ``ValueError`` when there are too few scores to tell.
    """
    if len(impostors) * false_accepts < 1:
        raise ValueError(f"{len(impostors)} impostor scores cannot show a rate of {false_accepts}")
    ordered = np.sort(np.asarray(impostors, dtype=np.float64))
    return float(ordered[len(ordered) - 1 - int(np.floor(len(ordered) * false_accepts))])


@dataclass(frozen=True)
class Scores:
    """Similarities of probes and gallery photos: of the same person, and of different people."""

    genuine: NDArray[np.float32]
    impostor: NDArray[np.float32]


def pair_scores(
    probes: Embeddings, probe_people: People, gallery: Embeddings, gallery_people: People
) -> Scores:
    """Compare every probe with every gallery photo."""
    similar = probes @ gallery.T
    same = probe_people[:, None] == gallery_people[None]
    return Scores(similar[same], similar[~same])


def accept_rate(genuine: NDArray[np.floating], threshold: float) -> Rate:
    """Return the share of genuine scores over a threshold: TAR at the FAR of that threshold."""
    return wilson(int((genuine > threshold).sum()), len(genuine))


def pair_accuracy(first: Embeddings, second: Embeddings, same: NDArray[np.bool_]) -> Rate:
    """Tell pairs ``(N, D)`` of photos of one person from others, by ten-fold cross-validation.

    LFW's protocol (Huang et al. 2007): each fold is judged by the threshold that is best on the
    other nine. Pairs are dealt to the folds in turn.
    """
    scores = (first * second).sum(1)
    fold = np.arange(len(scores)) % 10
    right = 0
    for number in range(10):
        threshold = _best_threshold(scores[fold != number], same[fold != number])
        judged = fold == number
        right += int(((scores[judged] > threshold) == same[judged]).sum())
    return wilson(right, len(scores))


def _best_threshold(scores: NDArray[np.float32], same: NDArray[np.bool_]) -> float:
    order = np.argsort(scores)
    # With the threshold above the first k scores, those of different people among them are right.
    right = np.concatenate([[0], np.cumsum(np.where(same[order], -1, 1))])
    k = int(right.argmax())
    ordered = scores[order]
    if k == 0:
        return float(ordered[0]) - 1e-6
    if k == len(ordered):
        return float(ordered[-1])
    return float(ordered[k - 1] + ordered[k]) / 2
