"""Intervals for figures that are no simple rates: the percentile bootstrap, by group.

Efron 1979; whole groups are drawn (Field and Welsh 2007), since pictures cut from one photo do not
err independently.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.worker.stopping import CancelCheck

DRAWS = 500

Indices = NDArray[np.integer[Any]]
Statistics = Callable[[Indices], dict[str, float]]


@dataclass(frozen=True)
class Interval:
    """A figure with a 95 % interval; all three are nan where the figure is not defined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    statistics: Statistics,
    groups: Sequence[str],
    *,
    seed: int = 0,
    draws: int = DRAWS,
    check_cancel: CancelCheck | None = None,
) -> dict[str, Interval]:
    """Return every statistic of all rows with the interval of draws of whole groups.

    ``statistics`` maps row numbers (repeats are allowed) to named figures. Draws in which a figure
    is not defined (nan) are left out of its interval.
    """
    if draws < 2:
        raise ValueError("a bootstrap needs at least two draws")
    values = statistics(np.arange(len(groups)))
    members = _members(groups)
    random = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in values}
    for _ in range(draws if members else 0):
        if check_cancel is not None:
            check_cancel()
        chosen = random.integers(0, len(members), size=len(members))
        for name, value in statistics(np.concatenate([members[i] for i in chosen])).items():
            if not math.isnan(value):
                drawn[name].append(value)
    return {name: _interval(value, drawn[name]) for name, value in values.items()}


def _members(groups: Sequence[str]) -> list[Indices]:
    if not groups:
        return []
    _, which = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(which, kind="stable")
    return list(np.split(order, np.cumsum(np.bincount(which))[:-1]))


def _interval(value: float, drawn: list[float]) -> Interval:
    if math.isnan(value) or not drawn:
        return Interval(value, math.nan, math.nan)
    low, high = np.percentile(drawn, (2.5, 97.5))
    # The percentile interval of a maximum (a perfect score) may miss it by rounding alone.
    return Interval(value, min(float(low), value), max(float(high), value))
