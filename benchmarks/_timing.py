"""Rates of candidates that take turns, as shares of a limit measured in the same rounds."""

import statistics
import time
from collections.abc import Callable

Rates = dict[str, list[float]]


def take_turns(candidates: dict[str, Callable[[], int]], rounds: int) -> Rates:
    """Return units a second of each candidate and round, after one call each to warm up.

    A candidate does some work and returns how many units it was.
    """
    for work in candidates.values():
        work()
    rates: Rates = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, work in candidates.items():
            start = time.perf_counter()
            units = work()
            rates[name].append(units / (time.perf_counter() - start))
    return rates


def share(rates: Rates, name: str, of: str) -> str:
    """Return "median [quartile, quartile]" of the quotient of two rates in each round."""
    quotients = [a / b for a, b in zip(rates[name], rates[of], strict=True)]
    low, middle, high = statistics.quantiles(quotients, n=4)
    return f"{middle:5.2f} [{low:.2f}, {high:.2f}]"


def beside(rates: Rates, name: str, *, limit: str, ours: str = "bauta") -> str:
    """Say which share of the limit a candidate has, and how many times as fast ours is."""
    return f"{share(rates, name, limit)}   {ours} is {share(rates, ours, name)} times as fast"
