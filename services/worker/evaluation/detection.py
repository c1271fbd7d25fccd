"""How well a detector tells attacked images from clean ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.worker.evaluation.areas import roc_area
from services.worker.evaluation.bootstrap import DRAWS, Indices, Interval, bootstrap
from services.worker.evaluation.metrics import Rate, wilson
from services.worker.stopping import CancelCheck

Scores = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Detected:
    """A detector's figures for one attack; those with a threshold are ``None`` without one.

    false_positives: clean images that are called suspicious, of all.
    detected: called suspicious, of the images that the attack fooled the classifier with.
    fooled_undetected: fooled and not called suspicious, of the images that were right before: the
        attack's success where suspicious images are turned away.
    roc_area: of the scores of fooling images against those of clean ones.
    """

    false_positives: Rate | None
    detected: Rate | None
    fooled_undetected: Rate | None
    roc_area: Interval


def judge_detector(
    clean: Scores,
    attacked: Scores,
    *,
    right: NDArray[np.bool_],
    fooled: NDArray[np.bool_],
    threshold: float | None,
    clean_groups: Sequence[str],
    attacked_groups: Sequence[str],
    seed: int = 0,
    draws: int = DRAWS,
    check_cancel: CancelCheck | None = None,
) -> Detected:
    """Judge scores of clean images ``(M,)`` and of attacked ones ``(N,)``.

    ``right (N,)`` says of which attacked images the original was classified right, ``fooled (N,)``
    which of them the attack fooled the classifier with; images it failed on are no attack to
    detect (Xu et al. 2018). The bootstrap draws whole groups, clean and attacked together.
    """
    if len(clean) != len(clean_groups):
        raise ValueError(f"{len(clean)} clean images have {len(clean_groups)} groups")
    if not len(attacked) == len(right) == len(fooled) == len(attacked_groups):
        raise ValueError("scores, outcomes and groups must be of the same attacked images")
    scores = np.concatenate([clean, attacked[fooled]])
    positive = np.arange(len(scores)) >= len(clean)
    groups = [*clean_groups, *(g for g, kept in zip(attacked_groups, fooled, strict=True) if kept)]

    def area(rows: Indices) -> dict[str, float]:
        return {"roc_area": roc_area(scores[rows], positive[rows])}

    found = bootstrap(area, groups, seed=seed, draws=draws, check_cancel=check_cancel)["roc_area"]
    if threshold is None:
        return Detected(None, None, None, found)
    noticed = attacked > threshold
    return Detected(
        false_positives=wilson(int((clean > threshold).sum()), len(clean)),
        detected=wilson(int((noticed & fooled).sum()), int(fooled.sum())),
        fooled_undetected=wilson(int((fooled & ~noticed).sum()), int(right.sum())),
        roc_area=found,
    )
