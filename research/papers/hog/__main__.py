"""``python -m research.papers.hog``: patterns against dlib's HOG detector, and their page.

Decoys are counted in the pattern itself. Patterns that hide their wearer are annealed on people of
``faces/train`` for everybody, and on one photo of a person of ``faces/test`` for that person; both
are judged on photos they were not annealed on. What is done is kept under ``reproduction/``.
"""

import argparse
import hashlib
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from research.papers.hog.page import Decoy, Personal, Run, Seen, page
from research.papers.markdown import deliver
from services.worker.datasets.identities import photos_of, read_photo
from services.worker.evaluation.metrics import wilson
from services.worker.masks.hog.annealing import HOT, anneal
from services.worker.masks.hog.baseline import COLORS, best_tiling, own_face, plain_masks
from services.worker.masks.hog.detector import Picture
from services.worker.masks.hog.grid import ColorGrid
from services.worker.masks.hog.objectives import Decoys, Hide, Rating
from services.worker.masks.hog.pattern import Pattern
from services.worker.masks.hog.problem import Problem
from services.worker.masks.hog.sprites import Sprites

SIZES = (100, 140, 200)
SEED = 3
TILE_SIDES = range(64, 129, 4)
WIDTHS = range(52, 81, 4)  # of stretched faces: dlib's are higher than wide
DECOYS: dict[str, Pattern] = {
    "six sprites (paper 002's state)": Sprites(),
    "60 sprites": Sprites(count=60, largest=160.0),
    "grid of free colors, cells of 8 px, from noise": ColorGrid(),
    "grid, one tile of 68 x 64 px, from the drawn face": ColorGrid(
        cell=2, tile=(34, 32), begin="face"
    ),
    "grid, one tile of 64 px, from the drawn face": ColorGrid(cell=2, tile=(32, 32), begin="face"),
}
MILD = 0.1  # the first temperature where it begins as a face: that is bettered, not melted
WORN = ColorGrid(height=96, width=96, cell=8)
NOTHING = "nothing"

Say = Callable[[str], None]
View = tuple[int, float]


@dataclass(frozen=True)
class Annealer:
    """Anneals once and keeps what was found in a folder."""

    folder: Path
    processes: int
    say: Say

    def run(self, problem: Problem, name: str, *, steps: int, seed: int) -> Run:
        """Anneal; ``name`` tells the objective and its photos from others."""
        pattern = problem.pattern
        drawn = isinstance(pattern, ColorGrid) and pattern.begin == "face"
        hot = MILD if drawn else HOT
        text = f"{pattern!r} {name} {steps} {seed} {hot}"
        path = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
        if path.is_file():
            with np.load(path) as kept:
                start, found, evaluations = kept["counts"].tolist()
                return Run(kept["pattern"], seed, start, found, evaluations, float(kept["seconds"]))
        done = anneal(problem, steps=steps, seed=seed, processes=self.processes, hot=hot)
        seconds = done.evaluations / done.evaluations_per_second
        run = Run(done.pattern, seed, done.start.found, done.best.found, done.evaluations, seconds)
        self.folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        counts = np.array([run.start, run.found, run.evaluations])
        np.savez(part, pattern=run.pattern, counts=counts, seconds=seconds)
        part.replace(path)
        self.say(f"{name}, seed {seed}: {run.start} -> {run.found} found, {seconds:.0f} s")
        return run


def drawn_people(root: Path, count: int, photos: int) -> list[list[Path]]:
    """Draw so many people with at least ``photos`` photos at random; return those photos."""
    rows: dict[str, list[Path]] = {}
    for name, path in photos_of(root):
        rows.setdefault(name, []).append(path)
    names = sorted(name for name, paths in rows.items() if len(paths) >= photos)
    order = np.random.default_rng(SEED).permutation(len(names))[:count]
    return [rows[names[index]][:photos] for index in order]


def wearers(paths: Iterable[Path]) -> Hide:
    """Return the objective to hide those whose faces dlib finds on the photos."""
    return Hide.of([read_photo(path) for path in paths], sizes=SIZES)


def views(hide: Hide, rating: Rating) -> list[View]:
    """Return the size of the face and the best score on it, of every view that was rated."""
    sizes = (size for _, size in hide.views)
    return list(zip(sizes, rating.scores, strict=True))


def seen(found: Sequence[View]) -> Seen:
    """Count the views in which nobody is found, for each size of the face."""
    hidden = {
        size: [score <= 0 for own, score in found if own == size]
        for size in sorted({size for size, _ in found})
    }
    return Seen(
        {size: wilson(sum(those), len(those)) for size, those in hidden.items()},
        float(np.mean([score for _, score in found])),
    )


def decoys(annealer: Annealer, *, steps: int, seeds: Sequence[int]) -> list[Decoy]:
    """Anneal every kind of pattern from every seed."""
    return [
        Decoy(
            name,
            [
                annealer.run(Problem(pattern, Decoys()), f"decoys, {name}", steps=steps, seed=seed)
                for seed in seeds
            ],
        )
        for name, pattern in DECOYS.items()
    ]


def universal(
    annealer: Annealer, train: Hide, test: Hide, *, steps: int, seeds: Sequence[int]
) -> tuple[dict[str, Seen], list[Run]]:
    """Return what is seen of strangers who wear nothing, plain masks, and patterns."""
    rows = {
        NOTHING if name == "bare" else f"plain {name}": seen(views(test, rating))
        for name, rating in plain_masks(test).items()
    }
    name = f"hide, {len(train.wearers)} people"
    runs = [annealer.run(Problem(WORN, train), name, steps=steps, seed=seed) for seed in seeds]
    for run in runs:
        rows[f"pattern, seed {run.seed}"] = seen(views(test, test.rate(run.pattern)))
    return rows, runs


def personal(annealer: Annealer, people: Sequence[Sequence[Path]], *, steps: int) -> Personal:
    """Anneal a pattern for each person on one photo; judge it on that photo and on another."""
    blue: Picture = np.full((64, 64, 3), COLORS["blue"], dtype=np.uint8)
    rows: dict[str, list[View]] = {}
    judged = 0
    for first, second in people:
        try:
            mine, other = wearers([first]), wearers([second])
        except ValueError:  # dlib does not find this person bare
            continue
        name = f"hide, {first.name}"
        run = annealer.run(Problem(WORN, mine), name, steps=steps, seed=SEED)
        for wearing, found in (
            (f"{NOTHING}, another photo", views(other, other.rate_bare())),
            ("plain blue, another photo", views(other, other.rate(blue))),
            ("own pattern, the photo it was annealed on", views(mine, mine.rate(run.pattern))),
            ("own pattern, another photo", views(other, other.rate(run.pattern))),
        ):
            rows.setdefault(wearing, []).extend(found)
        judged += 1
    return Personal(judged, {wearing: seen(found) for wearing, found in rows.items()})


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("reproduction/hog"))
    parser.add_argument("--steps", type=int, default=100, help="of `decoys`, four patterns each")
    parser.add_argument("--worn-steps", type=int, default=100, help="of `hide`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, default=6, help="people that wear one pattern")
    parser.add_argument("--judged", type=int, default=80, help="people of the test who wear it")
    parser.add_argument("--personal", type=int, default=8, help="people with one of their own")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, help="default: print the page")
    arguments = parser.parse_args()

    def say(line: str) -> None:
        print(line, flush=True)

    annealer = Annealer(arguments.cache, arguments.processes, say)
    seeds = range(arguments.seeds)
    faces = arguments.data / "faces"
    tilings = [
        best_tiling(own_face("drawn"), TILE_SIDES),
        best_tiling(own_face("drawn"), TILE_SIDES, stretched=WIDTHS),
    ]
    found = decoys(annealer, steps=arguments.steps, seeds=seeds)
    train = wearers(path for (path,) in drawn_people(faces / "train", arguments.train, 1))
    test = wearers(path for (path,) in drawn_people(faces / "test", arguments.judged, 1))
    rows, runs = universal(annealer, train, test, steps=arguments.worn_steps, seeds=seeds)
    people = drawn_people(faces / "test", arguments.personal, 2)
    text = page(
        tilings,
        found,
        rows,
        runs,
        personal(annealer, people, steps=arguments.worn_steps),
        annealed_on=len(train.wearers),
        judged=len(test.wearers),
        steps=(arguments.steps, arguments.worn_steps),
        command=shlex.join(["python", "-m", "research.papers.hog", *sys.argv[1:]]),
    )
    deliver(text, arguments.out, say)


if __name__ == "__main__":
    main()
