"""``generate-mask`` by the method ``hog``: anneals a pattern against dlib's face detector."""

import logging
import os
import time
from dataclasses import replace

from services.worker.encoding import thumbnail
from services.worker.jobs.generate_mask.hog.report import draw_design, report
from services.worker.jobs.kit import checkpoint
from services.worker.jobs.kit.checkpoint import CheckpointWriter
from services.worker.jobs.kit.files import store
from services.worker.masks.hog.annealing import HogResult, LiveAnnealing, anneal
from services.worker.masks.hog.grid import ColorGrid
from services.worker.masks.hog.objectives import Decoys, Hide
from services.worker.masks.hog.pattern import Pattern
from services.worker.masks.hog.problem import Problem
from services.worker.masks.hog.sprites import Sprites
from services.worker.masks.hog.wearers import Wearer, find_wearers
from services.worker.runtime.context import JobContext
from services.worker.stopping import Stopped
from shared.problems import Problem as Refusal
from shared.results.generate_mask import GenerateMaskResult
from shared.specs.generate_mask import GenerateMaskSpec
from shared.specs.hog import HogSettings

logger = logging.getLogger(__name__)

SHOW_SECONDS = 5.0  # between two pictures of the best so far, at first
SHOW_SHARE = 0.05  # later: this share of the time so far, an hour has some 90 of them
CHECKPOINT = "annealing.safetensors"
PHOTO_SIDE = 2048
SMALLEST, LARGEST = 96, 400  # pixels of a sprite, as far as the canvas has room for them
WARNINGS = (
    "digital, not physically tested; not a medical device",
    "made against dlib's HOG detector: it says nothing of other face finders",
)


def run(context: JobContext, spec: GenerateMaskSpec) -> GenerateMaskResult:
    """Anneal a pattern; a job that is stopped leaves the best so far."""
    began = time.monotonic()
    problem = Problem(pattern_of(spec.hog), _objective(context, spec))
    annealing = _Annealing(context, spec, began)
    found = annealing.anneal(problem)
    try:
        if found.stopped is not None:
            raise found.stopped
        context.progress(96, 100, "asking dlib about the pattern and what to compare it with")
        result, files = report(
            spec,
            problem.objective,
            found,
            processes=annealing.processes,
            warnings=annealing.warnings,
            began=began,
        )
        store(context, files)
    except Stopped as stop:
        if stop.ends_job:
            store(context, draw_design(spec.hog, found.pattern)[1], stopped=True)
        raise
    return result


def pattern_of(settings: HogSettings) -> Pattern:
    """Return the space of patterns that the settings describe."""
    side = settings.side
    if settings.pattern == "grid":
        return ColorGrid(
            height=side,
            width=side,
            cell=settings.cell,
            tile=settings.tile_shape,
            begin=settings.begin,
        )
    return Sprites(
        count=settings.sprites,
        height=side,
        width=side,
        smallest=SMALLEST,
        largest=max(SMALLEST, min(LARGEST, side)),
    )


def _objective(context: JobContext, spec: GenerateMaskSpec) -> Decoys | Hide:
    if spec.hog.objective == "decoys":
        return Decoys(scales=spec.hog.scales)
    wearers: list[Wearer] = []
    for index in range(len(spec.images)):
        photo = context.inputs.image(index, max_side=PHOTO_SIDE)
        found = find_wearers([photo], sorted(set(spec.hog.sizes)), upsample=0)
        wearers += [replace(wearer, photo=index) for wearer in found]
        context.progress(0, 1, f"looking for faces: {index + 1} of {len(spec.images)} photos")
    if not wearers:
        raise Refusal("invalid-input", "dlib finds no face in any of the photos to begin with.")
    return Hide(wearers=tuple(wearers))


class _Annealing:
    """One run of the job: its progress and checkpoints."""

    def __init__(self, context: JobContext, spec: GenerateMaskSpec, began: float) -> None:
        self.context, self.spec, self.began = context, spec, began
        self.writer = CheckpointWriter(context)
        self.warnings = list(WARNINGS)
        cores = context.settings.threads or os.cpu_count() or 1
        wanted = spec.hog.processes or cores
        self.processes = min(wanted, cores)
        if wanted > cores:
            self.warnings.append(f"this worker has {cores} cores: no more processes were started")
        self._shown: tuple[float, float] | None = None
        self._show_at = began + SHOW_SECONDS

    def anneal(self, problem: Problem) -> HogResult:
        """Anneal from where an earlier attempt was."""
        files = self.writer.load(CHECKPOINT)
        kept = files[CHECKPOINT] if files else None
        try:
            return self._anneal(problem, kept)
        except ValueError as error:
            if kept is None:
                raise
            # A worker on another CPU may see what it continues a little differently.
            logger.warning("%s starts over: %s", self.context.job_id, error)
            self.warnings.append("the work of an interrupted attempt could not be continued")
            return self._anneal(problem, None)

    def _anneal(self, problem: Problem, resume: bytes | None) -> HogResult:
        return anneal(
            problem,
            steps=self.spec.hog.steps,
            seed=self.spec.seed,
            processes=self.processes,
            watch=self._watch,
            check_cancel=self.context.check,
            save=lambda data: self.writer.save(lambda: {CHECKPOINT: data}),
            save_every_s=checkpoint.OFFER_SECONDS,
            resume=resume,
        )

    def _watch(self, live: LiveAnnealing) -> None:
        figures = {
            "step": live.step,
            "fitness": round(live.current.fitness, 4),
            "best_fitness": round(live.best.fitness, 4),
            "found": live.best.found,
            "temperature": float(f"{live.temperature:.3g}"),
        }
        message = f"step {live.step} of {live.steps}: {live.best.found} found"
        done = round(95 * live.step / live.steps)
        self.context.progress(done, 100, message, **figures)
        now = time.monotonic()
        if now < self._show_at or live.best.rank == self._shown:
            return
        self._shown = live.best.rank
        self._show_at = now + max(SHOW_SECONDS, SHOW_SHARE * (now - self.began))
        shown = {"step": live.step, "picture": thumbnail(live.draw())}
        self.context.event("pattern", {**shown, "found": live.best.found})
