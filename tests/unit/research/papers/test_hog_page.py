"""The command that judges patterns against dlib's HOG detector, on a small scale."""

import sys
from pathlib import Path

import dlib
import numpy as np
import pytest

from research.papers.hog import __main__ as hog
from research.papers.hog.page import mean_of
from services.demo.photos import portrait
from services.worker.masks.hog import annealing
from services.worker.masks.hog.grid import ColorGrid
from services.worker.masks.hog.objectives import Decoys
from services.worker.masks.hog.problem import Problem
from services.worker.masks.hog.sprites import Sprites

DLIB = dlib.get_frontal_face_detector()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People of two photos each, and one of one; all are the same portrait."""
    root = tmp_path_factory.mktemp("data")
    face = portrait()
    face.thumbnail((300, 300))
    for side in ("train", "test"):
        for name in ("ada", "bea"):
            folder = root / "faces" / side / name
            folder.mkdir(parents=True)
            face.save(folder / "1.png")
            face.rotate(2).save(folder / "2.png")
    alone = root / "faces" / "test" / "zoe"
    alone.mkdir()
    face.save(alone / "1.png")
    return root


def test_views_are_counted_by_size() -> None:
    found = hog.seen([(100, -0.5), (100, 0.0), (100, 0.7), (140, 1.2)])

    assert list(found.hidden) == [100, 140]
    assert (found.hidden[100].successes, found.hidden[100].total) == (2, 3)
    assert (found.hidden[140].successes, found.hidden[140].total) == (0, 1)
    assert found.score == pytest.approx(0.35)


def test_an_annealing_is_kept_and_other_settings_are_another_one(tmp_path: Path) -> None:
    said: list[str] = []
    annealer = hog.Annealer(tmp_path, 1, said.append)
    problem = Problem(Sprites(count=2, height=160, width=160, largest=160.0), Decoys())

    first, again, other = (
        annealer.run(problem, "decoys", steps=steps, seed=0) for steps in (3, 3, 4)
    )

    assert len(said) == 2
    assert np.array_equal(first.pattern, again.pattern)
    assert (first.found, first.evaluations) == (again.found, again.evaluations)
    assert first.found == len(DLIB(first.pattern, 0))
    assert other.evaluations == first.evaluations + 4


def test_people_are_drawn_by_seed_and_only_those_with_enough_photos(data: Path) -> None:
    both = hog.drawn_people(data / "faces" / "test", 5, 2)
    everyone = hog.drawn_people(data / "faces" / "test", 5, 1)

    assert sorted(paths[0].parent.name for paths in both) == ["ada", "bea"]
    assert all([path.name for path in paths] == ["1.png", "2.png"] for paths in both)
    assert len(everyone) == 3
    assert everyone == hog.drawn_people(data / "faces" / "test", 5, 1)


def test_the_page_has_every_table_and_a_second_run_anneals_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Sprites(count=2, height=160, width=160, largest=160.0)
    grid = ColorGrid(height=160, width=160, cell=2, tile=(36, 36), begin="face")
    monkeypatch.setattr(hog, "DECOYS", {"two sprites": small, "a tile": grid})
    monkeypatch.setattr(hog, "TILE_SIDES", (72,))
    monkeypatch.setattr(hog, "WIDTHS", (64, 72))
    monkeypatch.setattr(hog, "SIZES", (90, 100))
    monkeypatch.setattr(annealing, "CALIBRATION", 2)
    out = tmp_path / "page.md"
    arguments = (
        f"--data {data} --cache {tmp_path} --out {out} --steps 1 --worn-steps 1 --seeds 2 "
        "--train 1 --judged 2 --personal 1 --processes 1"
    )
    monkeypatch.setattr(sys, "argv", ["hog", *arguments.split()])

    hog.main()
    text = out.read_text()
    monkeypatch.setattr(hog, "anneal", None)  # what is kept is not annealed again
    hog.main()

    assert out.read_text() == text
    for part in (
        "two sprites",
        "| paper 002: one face tiled, no search |  | 42 |",
        "the face drawn here, tiled at 72 px, no search",
        "**does not beat** the",
        "pattern, seed 1",
        "plain white",
        "own pattern, another photo",
        "face of 90 px",
        "not physically tested",
    ):
        assert part in text
    nothing = next(line for line in text.splitlines() if line.startswith("| nothing |"))
    assert nothing.count("0.0%") == 2, "what is hidden is counted of those found bare"
    assert "nan" not in text


def test_the_mean_of_seeds_has_students_interval() -> None:
    assert mean_of([10, 12, 14]) == "12.0 [7.0, 17.0]", "12 ± 4.303 * 2 / sqrt(3)"
    assert mean_of([3]) == "3.0"
