"""Simulated annealing of a pattern (Kirkpatrick et al. 1983), several proposals a temperature.

A step draws a batch of neighbors, rates them side by side, and offers the best of them to the
Metropolis rule (Metropolis et al. 1953). The temperature falls exponentially, in units of the
changes of fitness that the moves make: an objective grows from hundredths to hundreds of faces.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from services.worker.masks.hog.checkpoint import AnnealingState, pack, unpack
from services.worker.masks.hog.detector import Detections, Picture, detect
from services.worker.masks.hog.objectives import Rating
from services.worker.masks.hog.pattern import State
from services.worker.masks.hog.pool import Pool
from services.worker.masks.hog.problem import Problem
from services.worker.stopping import CancelCheck, Progress, Stopped

MOST_STEPS = 1_000_000
MOST_BATCH = 64
BATCH = 4
HOT = 0.5  # the first temperature, in mean changes of fitness
COOLING = 100.0  # the first temperature against the last one, in those units
CALIBRATION = 16  # neighbors of the start that tell the first mean change
MEMORY = 0.98  # of the mean change, a step
REPORT_SECONDS = 0.25
SAME_FITNESS = 1e-3  # another CPU may add in another order


@dataclass(frozen=True)
class LiveAnnealing:
    """An annealing that goes on: its best pattern can be drawn."""

    step: int
    steps: int
    temperature: float
    current: Rating
    best: Rating
    draw: Callable[[], Picture]


@dataclass(frozen=True)
class HogResult:
    """The best pattern of an annealing.

    ``pattern`` is uint8 RGB ``(H, W, 3)``; ``detections`` are the faces that dlib finds in the
    pattern itself. ``start`` and ``best`` rate the first and the best state, ``best_state`` is that
    state. ``history`` is float64 ``(steps + 1, 3)``: the fitness of the current state, the best
    fitness and ``found`` of the best. ``evaluations`` counts pictures rated in all runs;
    ``evaluations_per_second`` is this run's rate. ``stopped`` is what ended it early.
    """

    pattern: Picture
    best_state: State
    detections: Detections
    start: Rating
    best: Rating
    history: np.ndarray[tuple[int, int], np.dtype[np.float64]]
    evaluations: int
    evaluations_per_second: float
    stopped: Stopped | None


def anneal(
    problem: Problem,
    *,
    steps: int,
    seed: int = 0,
    processes: int = 1,
    batch: int = BATCH,
    hot: float = HOT,
    cooling: float = COOLING,
    progress: Progress | None = None,
    watch: Callable[[LiveAnnealing], None] | None = None,
    check_cancel: CancelCheck | None = None,
    save: Callable[[bytes], None] | None = None,
    save_every_s: float = 60.0,
    resume: bytes | None = None,
) -> HogResult:
    """Maximize the problem's fitness over ``steps`` steps of ``batch`` proposals each.

    The temperature falls from ``hot`` to ``hot / cooling`` mean changes of the fitness, those that
    proposals made lately. Pattern and ratings depend on problem, steps, seed, batch, ``hot`` and
    ``cooling``, not on ``processes``.

    ``save`` receives a checkpoint every ``save_every_s`` seconds and at the end; given as
    ``resume`` with the same problem and settings, the run goes on to the same result as an unbroken
    one. A ``Stopped`` that ends the job returns the best so far; one before the first step, or for
    another worker to go on, is raised. Raises ``ValueError`` for numbers out of range and for the
    checkpoint of another run.
    """
    _check(steps, batch, hot, cooling, save_every_s)
    run = _Run(problem, steps, seed, batch, hot, cooling)
    if resume is not None:
        run.load(resume)
    check = check_cancel or (lambda: None)
    began = saved_at = time.monotonic()
    reported_at = -math.inf
    rated_before = run.state.evaluations if run.started else 0
    stopped: Stopped | None = None
    try:
        check()
        with Pool(problem, processes) as pool:
            began = time.monotonic()
            if run.started:
                run.confirm(pool, check)
            else:
                run.start(pool, check)
            while run.state.step < steps:
                run.advance(pool, check)
                now = time.monotonic()
                if now - reported_at >= REPORT_SECONDS or run.state.step == steps:
                    reported_at = now
                    if watch is not None:
                        watch(run.live())
                    if progress is not None:
                        progress(run.state.step, steps, run.message())
                if save is not None and now - saved_at >= save_every_s and run.state.step < steps:
                    save(run.packed())
                    saved_at = time.monotonic()
    except Stopped as stop:
        if not (run.started and stop.ends_job):
            raise
        stopped = stop
    seconds = max(time.monotonic() - began, 1e-9)
    if save is not None:
        stopped = _save_last(save, run.packed()) or stopped
    return run.result(stopped, (run.state.evaluations - rated_before) / seconds)


def _save_last(save: Callable[[bytes], None], checkpoint: bytes) -> Stopped | None:
    """Save the end of a run; the best pattern outlives a job that is over by then."""
    try:
        save(checkpoint)
    except Stopped as stop:
        if not stop.ends_job:
            raise
        return stop
    return None


def _check(steps: int, batch: int, hot: float, cooling: float, save_every_s: float) -> None:
    if not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"an annealing has 1 to {MOST_STEPS} steps, not {steps}")
    if not 1 <= batch <= MOST_BATCH:
        raise ValueError(f"a step has 1 to {MOST_BATCH} proposals, not {batch}")
    if not 0 <= hot <= 1e9:
        raise ValueError(f"the first temperature is 0 to 1e9 mean changes, not {hot}")
    if not 1 <= cooling <= 1e9:
        raise ValueError(f"the temperature falls by a factor of 1 to 1e9, not {cooling}")
    if save_every_s < 0:
        raise ValueError(f"checkpoints are 0 or more seconds apart, not {save_every_s}")


class _Run:
    state: AnnealingState

    def __init__(
        self,
        problem: Problem,
        steps: int,
        seed: int,
        batch: int,
        hot: float,
        cooling: float,
    ) -> None:
        self._problem, self._steps, self._batch = problem, steps, batch
        self._seed, self._hot, self._cooling = seed, hot, cooling
        self.started = False

    @property
    def _settings(self) -> dict[str, object]:
        """What a checkpoint must have in common with this run."""
        return {
            "pattern": repr(self._problem.pattern),
            "steps": self._steps,
            "seed": self._seed,
            "batch": self._batch,
            "hot": self._hot,
            "cooling": self._cooling,
        }

    def _rng(self, step: int, proposal: int) -> np.random.Generator:
        """Return a stream (Philox) that depends on seed, step and proposal only."""
        key = np.array([self._seed & (1 << 64) - 1, 0x484F47], dtype=np.uint64)
        counter = np.array([0, 0, step, proposal], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))

    def start(self, pool: Pool, check: CancelCheck) -> None:
        """Rate the start and some of its neighbors, and choose the first temperature."""
        pattern = self._problem.pattern
        first = pattern.start(self._rng(0, 0))
        around = [pattern.propose(first, self._rng(0, 1 + k), 1.0) for k in range(CALIBRATION)]
        rating, *neighbors = pool.rate([first, *around], check)
        self.state = AnnealingState(
            step=0,
            evaluations=1 + CALIBRATION,
            spread=_mean_change(rating, neighbors),
            current_state=first,
            best_state=first,
            start=rating,
            current=rating,
            best=rating,
            history=[(rating.fitness, rating.fitness, float(rating.found))],
        )
        self.started = True

    @property
    def _share(self) -> float:
        """How far the run is, from 0 to 1."""
        return self.state.step / max(1, self._steps - 1)

    @property
    def _temperature(self) -> float:
        """In units of the fitness."""
        return float(self.state.spread * self._hot * self._cooling ** -min(1.0, self._share))

    def advance(self, pool: Pool, check: CancelCheck) -> None:
        """Make one step."""
        now, step = self.state, self.state.step + 1
        heat = max(0.0, 1 - self._share)
        proposals = [
            self._problem.pattern.propose(now.current_state, self._rng(step, k), heat)
            for k in range(self._batch)
        ]
        ratings = pool.rate(proposals, check)
        temperature = self._temperature
        chosen = max(range(self._batch), key=lambda k: ratings[k].fitness)
        for state, rating in zip(proposals, ratings, strict=True):
            if rating.rank > now.best.rank:
                now.best_state, now.best = state, rating
        gain = ratings[chosen].fitness - now.current.fitness
        luck = self._rng(step, self._batch).random()
        change = _mean_change(now.current, ratings)
        if gain >= 0 or (temperature > 0 and luck < math.exp(gain / temperature)):
            now.current_state, now.current = proposals[chosen], ratings[chosen]
        now.spread = MEMORY * now.spread + (1 - MEMORY) * change
        now.step = step
        now.evaluations += self._batch
        now.history.append((now.current.fitness, now.best.fitness, float(now.best.found)))

    def live(self) -> LiveAnnealing:
        """Return where the run is."""
        now = self.state
        best = now.best_state
        return LiveAnnealing(
            now.step,
            self._steps,
            self._temperature,
            now.current,
            now.best,
            lambda: self._problem.pattern.render(best),
        )

    def message(self) -> str:
        """Say where the run is."""
        best = self.state.best
        return f"best {best.fitness:.3f}, {best.found} found, temperature {self._temperature:.2g}"

    def packed(self) -> bytes:
        """Return a checkpoint."""
        return pack(self.state, self._settings)

    def load(self, checkpoint: bytes) -> None:
        """Go on from a checkpoint; raises ``ValueError`` when it is of another run."""
        self.state = unpack(checkpoint, self._settings)
        self.started = True

    def confirm(self, pool: Pool, check: CancelCheck) -> None:
        """Raise ``ValueError`` when a checkpoint's rating is not what this problem gives."""
        [again] = pool.rate([self.state.current_state], check)
        if abs(again.fitness - self.state.current.fitness) > SAME_FITNESS:
            raise ValueError("the checkpoint is of another problem: its state rates differently")

    def result(self, stopped: Stopped | None, rate: float) -> HogResult:
        """Draw the best pattern."""
        now = self.state
        picture = np.ascontiguousarray(self._problem.pattern.render(now.best_state))
        return HogResult(
            pattern=picture,
            best_state=now.best_state,
            detections=detect(picture),
            start=now.start,
            best=now.best,
            history=np.array(now.history, dtype=np.float64),
            evaluations=now.evaluations,
            evaluations_per_second=rate,
            stopped=stopped,
        )


def _mean_change(current: Rating, others: Sequence[Rating]) -> float:
    return sum(abs(other.fitness - current.fitness) for other in others) / len(others)
