"""The walk: its law, its seeds, its checkpoints and its end."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dlib
import numpy as np
import pytest

from services.worker.masks.hog.annealing import (
    HogResult,
    LiveAnnealing,
    anneal,
)
from services.worker.masks.hog.baseline import best_tiling, own_face
from services.worker.masks.hog.grid import ColorGrid
from services.worker.masks.hog.objectives import Decoys, Rating
from services.worker.masks.hog.problem import Problem
from services.worker.masks.hog.sprites import Sprites
from services.worker.stopping import Stopped

SPRITES = Sprites(count=2, height=160, width=180, smallest=90, largest=140)
FACES = Problem(SPRITES, Decoys())


@dataclass(frozen=True)
class Coin:
    """Two states, each the other's only neighbor."""

    def start(self, rng: np.random.Generator) -> Any:
        return np.zeros(1, dtype=np.uint8)

    def propose(self, state: Any, rng: np.random.Generator, heat: float) -> Any:
        return 1 - state

    def render(self, state: Any) -> Any:
        return np.full((1, 1, 3), state[0], dtype=np.uint8)


@dataclass(frozen=True)
class Walk:
    """A number from 0 to 255 that moves by up to 9; it rests at the brightest."""

    def start(self, rng: np.random.Generator) -> Any:
        return np.zeros(1, dtype=np.uint8)

    def propose(self, state: Any, rng: np.random.Generator, heat: float) -> Any:
        return np.clip(state.astype(int) + rng.integers(-9, 10), 0, 255).astype(np.uint8)

    def render(self, state: Any) -> Any:
        return np.full((2, 2, 3), state[0], dtype=np.uint8)


@dataclass(frozen=True)
class Light:
    """How bright a picture is."""

    def rate(self, picture: Any) -> Rating:
        light = float(picture.mean())
        return Rating(light, int(light), (light,), (0.0, light))


def same(one: HogResult, other: HogResult) -> bool:
    return (
        np.array_equal(one.pattern, other.pattern)
        and np.array_equal(one.best_state, other.best_state)
        and np.array_equal(one.history, other.history)
        and (one.start, one.best, one.evaluations) == (other.start, other.best, other.evaluations)
    )


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_at_a_constant_temperature_states_are_as_frequent_as_boltzmann_says(
    temperature: float,
) -> None:
    # Every neighbor changes the fitness by 1, so the unit of the temperature is 1, too.
    coin = Problem(Coin(), Light())
    done = anneal(coin, steps=3000, batch=1, hot=temperature, cooling=1.0, seed=5)

    up = done.history[:, 0].mean()
    assert up == pytest.approx(1 / (1 + math.exp(-1 / temperature)), abs=0.03)


def test_without_heat_it_only_climbs_and_reaches_the_top() -> None:
    done = anneal(Problem(Walk(), Light()), steps=200, batch=2, hot=0.0)

    assert (np.diff(done.history[:, 0]) >= 0).all()
    assert done.best.fitness == 255
    assert (done.pattern == 255).all()


def test_the_best_is_kept_while_the_walk_goes_down_again() -> None:
    done = anneal(Problem(Walk(), Light()), steps=300, batch=1, hot=50.0, cooling=1.0, seed=2)

    current, best = done.history[:, 0], done.history[:, 1]
    assert (np.diff(current) < 0).any()
    assert np.array_equal(best, np.maximum.accumulate(current))
    assert done.best.fitness == best[-1] == done.pattern.mean()


def test_it_finds_faces_that_dlib_confirms() -> None:
    done = anneal(FACES, steps=40, seed=1)

    assert done.best.fitness > done.start.fitness
    assert done.best.found == done.history[-1, 2] == len(done.detections) >= 1
    assert len(dlib.get_frontal_face_detector()(done.pattern, 0)) == done.best.found
    assert done.history.shape == (41, 3)
    assert done.evaluations == 1 + 16 + 40 * 4
    assert done.evaluations_per_second > 0
    assert not done.stopped


def test_a_tile_packs_more_faces_than_any_tiling_of_the_face_it_begins_as() -> None:
    side, face = 280, own_face("drawn")
    square, stretched = (
        best_tiling(face, range(64, 93, 4), height=side, width=side, stretched=widths)
        for widths in (None, range(60, 81, 4))
    )
    tile = ColorGrid(height=side, width=side, cell=2, tile=(32, 32), begin="face")

    done = anneal(Problem(tile, Decoys()), steps=120, seed=0, hot=0.1)

    assert done.start.found == 0, "64 pixels are too few for the face as it is drawn"
    found = len(dlib.get_frontal_face_detector()(done.pattern, 0))
    assert found == done.best.found
    assert found > len(stretched.detections) > len(square.detections)


def test_the_result_does_not_depend_on_the_processes() -> None:
    results = [anneal(FACES, steps=6, seed=3, processes=count) for count in (1, 2)]

    assert same(results[0], results[1])


@pytest.mark.parametrize("pattern", [SPRITES, ColorGrid(height=90, width=90, cell=9)])
def test_the_seed_decides(pattern: Any) -> None:
    first, again, other = (
        anneal(Problem(pattern, Decoys()), steps=5, seed=seed) for seed in (1, 1, 2)
    )

    assert same(first, again)
    assert not np.array_equal(first.pattern, other.pattern)


def stop_after(steps: int) -> tuple[Callable[[LiveAnnealing], None], Callable[[], None]]:
    """Return a watch and a check that cancel when so many steps were made."""
    seen = [0]

    def watch(live: LiveAnnealing) -> None:
        seen[0] = live.step

    def check() -> None:
        if seen[0] >= steps:
            raise Stopped

    return watch, check


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.worker.masks.hog.annealing.REPORT_SECONDS", 0.0)


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_that_was_cut_off_ends_as_an_unbroken_one(processes: int) -> None:
    settings: dict[str, Any] = {"steps": 12, "seed": 4}
    whole = anneal(FACES, **settings)
    kept: list[bytes] = []
    watch, check = stop_after(5)

    cut = anneal(
        FACES, **settings, processes=processes, watch=watch, check_cancel=check, save=kept.append
    )
    resumed = anneal(FACES, **settings, resume=kept[-1])

    assert cut.stopped
    assert len(cut.history) == 6
    assert same(resumed, whole)


def test_every_checkpoint_leads_to_the_same_end() -> None:
    kept: list[bytes] = []
    whole = anneal(FACES, steps=4, save=kept.append, save_every_s=0.0)

    assert len(kept) == 4
    assert all(same(anneal(FACES, steps=4, resume=data), whole) for data in kept)


def test_the_checkpoint_of_another_run_is_refused() -> None:
    kept: list[bytes] = []
    anneal(FACES, steps=3, save=kept.append)

    for settings in ({"steps": 4}, {"steps": 3, "seed": 1}, {"steps": 3, "batch": 2}):
        with pytest.raises(ValueError, match="a run with other"):
            anneal(FACES, resume=kept[0], **settings)
    with pytest.raises(ValueError, match="other pattern"):
        anneal(Problem(Sprites(), Decoys()), steps=3, resume=kept[0])
    with pytest.raises(ValueError, match="rates differently"):
        anneal(Problem(SPRITES, Decoys(scales=(0.8,))), steps=3, resume=kept[0])
    for data in (b"", b"not a checkpoint", kept[0][:-20]):
        with pytest.raises(ValueError, match="no checkpoint"):
            anneal(FACES, steps=3, resume=data)


@pytest.mark.usefixtures("watched")
def test_a_cancel_keeps_the_best_so_far() -> None:
    watch, check = stop_after(30)
    done = anneal(Problem(Walk(), Light()), steps=1000, watch=watch, check_cancel=check)

    assert done.stopped
    assert len(done.history) == 31
    assert 0 < done.best.fitness == done.history[:, 0].max() == done.pattern.mean()


def test_a_cancel_before_the_first_step_has_nothing_to_keep() -> None:
    def check() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        anneal(FACES, steps=3, check_cancel=check)


def test_what_else_a_check_raises_goes_through() -> None:
    def check() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        anneal(FACES, steps=3, check_cancel=check)


@pytest.mark.usefixtures("watched")
def test_progress_is_told_and_the_best_can_be_drawn() -> None:
    told: list[tuple[int, int, str]] = []
    pictures: list[Any] = []

    def watch(live: LiveAnnealing) -> None:
        pictures.append(live.draw())
        assert live.best.fitness >= live.current.fitness
        assert pictures[-1].mean() == live.best.fitness

    anneal(Problem(Walk(), Light()), steps=8, progress=lambda *one: told.append(one), watch=watch)

    assert [done for done, _, _ in told] == list(range(1, 9))
    assert all(total == 8 and "best" in message for _, total, message in told)
    assert len(pictures) == 8


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"steps": 0}, "1 to 1000000 steps"),
        ({"batch": 0}, "1 to 64 proposals"),
        ({"hot": -1.0}, "first temperature"),
        ({"hot": math.nan}, "first temperature"),
        ({"cooling": 0.5}, "falls by a factor"),
        ({"save_every_s": -1.0}, "seconds apart"),
        ({"processes": 0}, "1 to 64 processes"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        anneal(FACES, **{"steps": 2, **wrong})
