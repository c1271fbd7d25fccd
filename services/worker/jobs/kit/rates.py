"""Proportions and figures as results show them."""

import math

from services.worker.evaluation.bootstrap import Interval
from services.worker.evaluation.metrics import Rate as Proportion
from shared.results.attack import SuccessRate
from shared.results.evaluate import Figure, Rate
from shared.results.train import Accuracy


def as_rate(rate: Proportion) -> Rate:
    """Return a proportion."""
    return Rate(
        successes=rate.successes, total=rate.total, rate=_value(rate), low=rate.low, high=rate.high
    )


def as_accuracy(rate: Proportion) -> Accuracy:
    """Return the share of right answers."""
    return Accuracy(
        right=rate.successes, total=rate.total, rate=_value(rate), low=rate.low, high=rate.high
    )


def as_success_rate(rate: Proportion) -> SuccessRate:
    """Return the share of attacks that succeeded."""
    return SuccessRate(
        successes=rate.successes,
        counted=rate.total,
        rate=_value(rate),
        low=rate.low,
        high=rate.high,
    )


def as_figure(interval: Interval) -> Figure:
    """Return a figure with its interval; what is not a number is left out."""
    value, low, high = (
        None if math.isnan(number) else number
        for number in (interval.value, interval.low, interval.high)
    )
    return Figure(value=value, low=low, high=high)


def _value(rate: Proportion) -> float | None:
    return rate.value if rate.total else None
