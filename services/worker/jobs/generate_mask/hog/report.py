"""What a pattern against HOG face detectors is worth: the report of ``generate-mask``."""

import time
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import torch

from services.worker.encoding import png
from services.worker.jobs.generate_mask.hog import pictures
from services.worker.jobs.kit.provenance import device_name, versions
from services.worker.masks.hog.annealing import HogResult
from services.worker.masks.hog.baseline import (
    PUBLISHED_FACES,
    PUBLISHED_TILING,
    best_tiling,
    own_face,
    plain_masks,
)
from services.worker.masks.hog.detector import Picture
from services.worker.masks.hog.objectives import Decoys, Hide, Objective, Rating
from services.worker.masks.terms import non_printability
from services.worker.runtime.context import JobContext
from shared.results import Timing
from shared.results.generate_mask import (
    GenerateMaskResult,
    HogFace,
    HogFigures,
    HogScale,
    HogStep,
    HogTiling,
    HogWearing,
    MaskDesign,
)
from shared.specs.generate_mask import GenerateMaskSpec
from shared.specs.hog import HogSettings

TILE_SIDES = range(64, 129, 4)
FACES_TOLD = 200
STEPS_TOLD = 200
STRIP = 64  # rows of the pattern whose colors are compared at a time
WORN = {"bare": "nothing"}


def report(
    context: JobContext,
    spec: GenerateMaskSpec,
    objective: Objective,
    found: HogResult,
    *,
    processes: int,
    warnings: Sequence[str],
    began: float,
) -> GenerateMaskResult:
    """Compare a pattern with what needs no search, draw it, and store all of it."""
    context.progress(96, 100, "asking dlib about the pattern and what to compare it with")
    figures = _figures(context, spec.hog, objective, found, processes)
    design = put_design(context, spec.hog, found.pattern)
    shown = None
    photos: dict[str, int] = {}
    said = list(warnings)
    if isinstance(objective, Hide):
        picture = pictures.worn(objective, found.pattern, objective.rate_bare(), found.best)
        shown = context.artifacts.put("worn.png", picture, "image/png")
        photos = {
            "with a face": len(objective.wearers),
            "without": len(spec.images) - len(objective.wearers),
        }
        said += _controls(figures.wearings)
    drawn = context.artifacts.put("curves.png", pictures.curves(figures.history), "image/png")
    return GenerateMaskResult(
        parameters=spec.model_dump(mode="json", include={"kind", "method", "hog", "seed"}),
        models=(),
        device=device_name(torch.device("cpu")),
        versions={**versions(), "dlib-bin": version("dlib-bin")},
        timing=Timing(total=round(time.monotonic() - began, 4)),
        main_artifact=shown or figures.detections,
        warnings=tuple(said),
        designs=(design,),
        sheet="pattern.png",
        worn=shown,
        curves=drawn,
        model=None,
        people={},
        photos=photos,
        figures=(),
        epochs=(),
        likeness=0.0,
        hog=figures,
    )


def _figures(
    context: JobContext,
    settings: HogSettings,
    objective: Objective,
    found: HogResult,
    processes: int,
) -> HogFigures:
    searched = 1
    tiling = None
    scales: tuple[HogScale, ...] = ()
    wearings: tuple[HogWearing, ...] = ()
    if isinstance(objective, Hide):
        searched = len(objective.views)
        wearings = _wearings(objective, found)
    elif isinstance(objective, Decoys):
        searched = len(objective.scales)
        scales = tuple(
            HogScale(scale=scale, found=Decoys(scales=(scale,)).rate(found.pattern).found)
            for scale in objective.scales
        )
        tiling = _tiling(context, settings.side)
    picture = pictures.detections(found.pattern, found.detections)
    pairs = zip(found.detections.boxes.tolist(), found.detections.scores.tolist(), strict=True)
    return HogFigures(
        objective=settings.objective,
        pattern=settings.pattern,
        found=len(found.detections),
        published=PUBLISHED_FACES,
        start_found=found.start.found,
        faces=tuple(HogFace(box=tuple(box), score=round(score, 4)) for box, score in pairs)[
            :FACES_TOLD
        ],
        detections=context.artifacts.put("detections.jpg", picture, "image/jpeg"),
        tiling=tiling,
        scales=scales,
        wearings=wearings,
        processes=processes,
        evaluations=found.evaluations,
        detections_per_second=round(searched * found.evaluations_per_second, 2),
        history=_history(found),
    )


def _tiling(context: JobContext, side: int) -> HogTiling:
    sides = [size for size in TILE_SIDES if size <= side]
    best = best_tiling(own_face("drawn"), sides, height=side, width=side)
    return HogTiling(
        picture=context.artifacts.put("tiling.png", png(best.picture), "image/png"),
        side=best.side,
        found=len(best.detections),
        published=PUBLISHED_TILING,
    )


def _wearings(hide: Hide, found: HogResult) -> tuple[HogWearing, ...]:
    ratings: dict[str, Rating] = {**plain_masks(hide), "ours": found.best}
    return tuple(
        HogWearing(
            wearing="ours" if name == "ours" else WORN.get(name, f"plain {name}"),  # type: ignore[arg-type]
            views=len(rating.scores),
            hidden=len(rating.scores) - rating.found,
            score=round(float(np.mean(rating.scores)), 4),
        )
        for name, rating in ratings.items()
    )


def _controls(wearings: tuple[HogWearing, ...]) -> list[str]:
    """Warn where a plain mask does as well as ours."""
    ours = next(row for row in wearings if row.wearing == "ours")
    plain = [row for row in wearings if row.wearing.startswith("plain")]
    equal = [row.wearing for row in plain if row.hidden >= ours.hidden]
    if not equal:
        return []
    return [f"{', '.join(equal)}: hide as many views as the pattern does"]


def _history(found: HogResult) -> tuple[HogStep, ...]:
    last = len(found.history) - 1
    chosen = np.unique(np.linspace(0, last, min(STEPS_TOLD, last + 1)).round().astype(int))
    return tuple(
        HogStep(step=step, fitness=round(now, 4), best_fitness=round(best, 4), found=round(count))
        for step, (now, best, count) in zip(
            chosen.tolist(), found.history[chosen].tolist(), strict=True
        )
    )


def put_design(
    context: JobContext, settings: HogSettings, pattern: Picture, *, stopped: bool = False
) -> MaskDesign:
    """Store a pattern as it is, and to be printed; ``stopped``: even by a job that must end."""
    worn = settings.objective == "hide"
    width, height = pictures.printed_size(worn=worn)

    def put(name: str, data: bytes, media_type: str = "image/png") -> str:
        return context.artifacts.put(name, data, media_type, stopped=stopped)

    put("pattern.png", png(pattern))
    page = put("design-0.pdf", pictures.page(pattern, worn=worn), "application/pdf")
    return MaskDesign(
        picture=put("design-0.png", pictures.print_png(pattern, worn=worn)),
        page=page,
        width_mm=round(width, 2),
        height_mm=round(height, 2),
        non_printability=round(_non_printability(pattern), 4),
    )


def _non_printability(pattern: Picture) -> float:
    total = 0.0
    for start in range(0, len(pattern), STRIP):
        strip = torch.from_numpy(pattern[start : start + STRIP]).permute(2, 0, 1)[None] / 255
        total += float(non_printability(strip)) * strip.shape[2]
    return total / len(pattern)
