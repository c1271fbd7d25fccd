"""Turns at decoding, without any clock: what runs is held until the test lets it go."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from services.api.decoding import EXPENSIVE, DecodingTurns


class Held:
    """Work that says when it begins and ends when it is let go."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self._gates: dict[str, threading.Event] = {}

    def work(self, name: str) -> Callable[[], str]:
        self._gates[name] = threading.Event()

        def run() -> str:
            self.began.append(name)
            assert self._gates[name].wait(60)
            return name

        return run

    def let_go(self, name: str) -> None:
        self._gates[name].set()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_a_tiny_upload_does_not_wait_for_another_tenants_expensive_ones() -> None:
    async def scene() -> None:
        held, turns = Held(), DecodingTurns(2)
        heavy = [
            asyncio.create_task(turns.run("a", 40 * EXPENSIVE, held.work(f"a{n}")))
            for n in range(12)
        ]
        await until(lambda: held.began == ["a0"])
        tiny = asyncio.create_task(turns.run("b", 1, held.work("b")))
        await until(lambda: held.began == ["a0", "b"])
        assert turns.waiting == 11
        held.let_go("b")
        assert await tiny == "b"
        for number in range(12):
            held.let_go(f"a{number}")
        await asyncio.gather(*heavy)
        assert held.began == ["a0", "b", *(f"a{number}" for number in range(1, 12))]

    asyncio.run(scene())


@pytest.mark.parametrize("cost", [1, 2 * EXPENSIVE])
def test_tenants_take_turns_however_many_each_sends(cost: int) -> None:
    async def scene() -> None:
        held, turns = Held(), DecodingTurns(2)
        # One place is taken: two that were let in together would begin in any order.
        taken = asyncio.create_task(turns.run("z", 1, held.work("z")))
        await until(lambda: held.began == ["z"])
        held.began.clear()
        names = [f"a{n}" for n in range(6)] + ["b0", "b1", "c0"]
        tasks = [asyncio.create_task(turns.run(name[0], cost, held.work(name))) for name in names]
        await until(lambda: turns.waiting == len(names) - 1)
        for _ in names:
            await until(lambda: len(held.began) > sum(task.done() for task in tasks))
            running = [name for name in held.began if not tasks[names.index(name)].done()]
            held.let_go(running[0])
            await tasks[names.index(running[0])]
        held.let_go("z")
        await taken
        served = [name[0] for name in held.began]
        assert served.index("b") <= 3
        assert served.index("c") <= 4
        assert [name for name in held.began if name[0] == "a"] == [f"a{n}" for n in range(6)]

    asyncio.run(scene())


def test_expensive_ones_are_not_starved_by_quick_ones() -> None:
    async def scene() -> None:
        held, turns = Held(), DecodingTurns(2)
        first = [asyncio.create_task(turns.run("a", 1, held.work(f"q{n}"))) for n in range(2)]
        await until(lambda: len(held.began) == 2)
        rest = [asyncio.create_task(turns.run("a", 1, held.work(f"r{n}"))) for n in range(9)]
        heavy = asyncio.create_task(turns.run("b", 2 * EXPENSIVE, held.work("heavy")))
        await until(lambda: turns.waiting == 10)
        held.let_go("q0")
        await until(lambda: "heavy" in held.began)
        assert len(held.began) == 3
        for name in ["q1", "heavy", *(f"r{n}" for n in range(9))]:
            held.let_go(name)
        await asyncio.gather(*first, *rest, heavy)

    asyncio.run(scene())


def test_who_leaves_while_waiting_takes_no_place() -> None:
    async def scene() -> None:
        held, turns = Held(), DecodingTurns(2)
        tasks = {
            name: asyncio.create_task(turns.run(name[0], 1, held.work(name)))
            for name in ("a0", "a1", "b0", "c0")
        }
        await until(lambda: turns.waiting == 2 and len(held.began) == 2)
        tasks["b0"].cancel()
        await until(lambda: turns.waiting == 1)
        for name in ("a0", "a1", "c0"):
            held.let_go(name)
        await asyncio.gather(tasks["a0"], tasks["a1"], tasks["c0"])
        assert held.began[2:] == ["c0"]
        assert await turns.run("d", 1, lambda: "goes on") == "goes on"

    asyncio.run(scene())


def test_a_failure_gives_its_place_back() -> None:
    async def scene() -> None:
        turns = DecodingTurns(2)
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                await turns.run("a", 2 * EXPENSIVE, lambda: 1 // 0)
        assert await turns.run("a", 1, lambda: 7) == 7

    asyncio.run(scene())
