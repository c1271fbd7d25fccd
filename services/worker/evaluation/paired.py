"""The paired comparison of two rows of a table: McNemar's exact test."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest


@dataclass(frozen=True)
class McNemar:
    """Images that only one of two rows got right, and how surprising their split is.

    ``p`` is the two-sided exact (binomial) p-value of McNemar 1947; 1 where the rows never differ.
    """

    only_first: int
    only_second: int
    p: float


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> McNemar:
    """Compare two rows of successes on the same images; raises ``ValueError`` for other lengths."""
    if first.shape != second.shape:
        raise ValueError(f"{len(first)} and {len(second)} images cannot be paired")
    one, two = int((first & ~second).sum()), int((second & ~first).sum())
    result: Any = binomtest(one, one + two) if one + two else None
    return McNemar(one, two, float(result.pvalue) if result is not None else 1.0)
