"""Areas under curves and calibration, fast enough for thousands of bootstrap draws."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.floating[Any]]
Booleans = NDArray[np.bool_]


def roc_area(scores: Floats, positive: Booleans) -> float:
    """Return the area under the ROC curve; nan without both kinds.

    It is the chance that a positive one scores higher than a negative one, ties counting half
    (Mann and Whitney 1947).
    """
    ones = int(positive.sum())
    zeros = len(positive) - ones
    if not ones or not zeros:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def average_precision(scores: Floats, positive: Booleans) -> float:
    """Return the area under the precision-recall curve, without interpolation; nan of none."""
    total = int(positive.sum())
    if not total:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    # Thresholds lie between distinct scores only.
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    precision = hits[last] / (last + 1)
    recall = hits[last] / total
    return float((np.diff(recall, prepend=0.0) * precision).sum())
