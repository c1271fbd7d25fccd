"""Detections a second on two processes against one, of the annealing against dlib's HOG detector.

``python -m benchmarks.hog [--rounds 5] [--processes 2] [--steps 10]``

Both anneal the same pattern from the same seed on paper 002's canvas of 766 pixels, or hide a
portrait at three sizes; they find the same, and starting the processes is not counted (once a job,
about two seconds). *bare dlib* calls the detector on one such picture and nothing else, in one
process: the limit of one. Goal: two processes on two free cores reach 1.8 times one.
"""

import argparse
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np

from benchmarks._timing import share, take_turns
from services.demo.photos import portrait
from services.worker.masks.hog.detector import detect
from services.worker.masks.hog.grid import ColorGrid
from services.worker.masks.hog.objectives import FLOOR, Decoys, Hide
from services.worker.masks.hog.pool import Pool
from services.worker.masks.hog.problem import Problem
from services.worker.masks.hog.sprites import Sprites

BATCH = 4  # proposals a step, as in the job
ONE, BARE = "1 process", "bare dlib"


def cases() -> dict[str, Problem]:
    """Return what is annealed: a canvas to look at, and a face to hide."""
    photo = np.asarray(portrait().convert("RGB"))
    return {
        "decoys, six sprites on 766 px": Problem(Sprites(), Decoys()),
        "hide, one face at 100, 140 and 200 px": Problem(
            ColorGrid(height=96, width=96, cell=8), Hide.of([photo])
        ),
    }


def main() -> None:
    """Print one table a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10, help="in each round")
    chosen = parser.parse_args()
    many = f"{chosen.processes} processes"
    for name, problem in cases().items():
        objective = problem.objective
        views = len(objective.views) if isinstance(objective, Hide) else 1
        rng = np.random.default_rng(0)
        start = problem.pattern.start(rng)
        steps = [
            [problem.pattern.propose(start, rng, 1.0) for _ in range(BATCH)]
            for _ in range(chosen.steps)
        ]
        detections = chosen.steps * BATCH * views
        with ExitStack() as stack:

            def rating(
                pool: Pool,
                steps: list[list[np.ndarray]] = steps,
                detections: int = detections,
            ) -> Callable[[], int]:
                def work() -> int:
                    for states in steps:
                        pool.rate(states)
                    return detections

                return work

            candidates = {
                ONE: rating(stack.enter_context(Pool(problem, 1))),
                many: rating(stack.enter_context(Pool(problem, chosen.processes))),
            }
            if views == 1:
                picture = problem.pattern.render(start)

                def bare(picture: np.ndarray = picture) -> int:
                    for _ in range(BATCH):
                        detect(picture, threshold=FLOOR)
                    return BATCH

                candidates[BARE] = bare
            rates = take_turns(candidates, chosen.rounds)
        print(f"{name}: detections a second, share of {ONE}")
        for candidate, rate in rates.items():
            middle = sorted(rate)[len(rate) // 2]
            print(f"{candidate:12} {middle:7.1f}/s {share(rates, candidate, ONE)}", flush=True)


if __name__ == "__main__":
    main()
