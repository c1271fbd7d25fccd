"""The warm models."""

from dataclasses import dataclass

from services.worker.runtime.cache import ModelCache


@dataclass
class Thing:
    name: str
    bytes: int


def test_loads_once_and_drops_what_was_used_longest_ago() -> None:
    cache = ModelCache(100)
    loads: list[str] = []

    def get(name: str, size: int = 40) -> Thing:
        def load() -> Thing:
            loads.append(name)
            return Thing(name, size)

        return cache.get(name, load)

    get("a"), get("b"), get("a"), get("c"), get("a"), get("b")

    assert loads == ["a", "b", "c", "b"]


def test_one_larger_than_the_bound_is_still_kept() -> None:
    cache = ModelCache(10)
    first = cache.get("big", lambda: Thing("big", 50))

    assert cache.get("big", lambda: Thing("other", 50)) is first


def test_a_failed_load_is_tried_again() -> None:
    cache = ModelCache(10)

    def fail() -> Thing:
        raise OSError("no weights")

    for _ in range(2):
        try:
            cache.get("a", fail)
        except OSError:
            continue
    assert cache.get("a", lambda: Thing("a", 1)).name == "a"
