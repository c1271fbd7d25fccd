"""What a pattern against HOG face detectors is worth: the report of ``generate-mask``."""

import time
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import torch

from services.worker.encoding import png
from services.worker.jobs.generate_mask.hog import pictures
from services.worker.jobs.kit.files import File
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
    spec: GenerateMaskSpec,
    objective: Objective,
    found: HogResult,
    *,
    processes: int,
    warnings: Sequence[str],
    began: float,
) -> tuple[GenerateMaskResult, list[File]]:
    """Compare a pattern with what needs no search, and draw it; returns the files, too."""
    figures, files = _figures(spec.hog, objective, found, processes)
    design, printed = draw_design(spec.hog, found.pattern)
    files += printed
    shown = None
    photos: dict[str, int] = {}
    cautions = list(warnings)
    if isinstance(objective, Hide):
        picture = pictures.worn(objective, found.pattern, objective.rate_bare(), found.best)
        files.append(File("worn.png", picture))
        shown = "worn.png"
        photos = {
            "with a face": len(objective.wearers),
            "without": len(spec.images) - len(objective.wearers),
        }
        cautions += _controls(figures.wearings)
    files.append(File("curves.png", pictures.curves(figures.history)))
    result = GenerateMaskResult(
        parameters=spec.model_dump(mode="json", include={"kind", "method", "hog", "seed"}),
        models=(),
        device=device_name(torch.device("cpu")),
        versions={**versions(), "dlib-bin": version("dlib-bin")},
        timing=Timing(total=round(time.monotonic() - began, 4)),
        main_artifact=shown or figures.detections,
        warnings=tuple(cautions),
        designs=(design,),
        sheet="pattern.png",
        worn=shown,
        curves="curves.png",
        model=None,
        people={},
        photos=photos,
        figures=(),
        epochs=(),
        likeness=0.0,
        hog=figures,
    )
    return result, files


def _figures(
    settings: HogSettings,
    objective: Objective,
    found: HogResult,
    processes: int,
) -> tuple[HogFigures, list[File]]:
    files = []
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
        tiling, picture = _tiling(settings.side)
        files.append(picture)
    drawn = pictures.detections(found.pattern, found.detections)
    files.append(File("detections.jpg", drawn, "image/jpeg"))
    pairs = zip(found.detections.boxes.tolist(), found.detections.scores.tolist(), strict=True)
    figures = HogFigures(
        objective=settings.objective,
        pattern=settings.pattern,
        found=len(found.detections),
        published=PUBLISHED_FACES,
        start_found=found.start.found,
        faces=tuple(HogFace(box=tuple(box), score=round(score, 4)) for box, score in pairs)[
            :FACES_TOLD
        ],
        detections="detections.jpg",
        tiling=tiling,
        scales=scales,
        wearings=wearings,
        processes=processes,
        evaluations=found.evaluations,
        detections_per_second=round(searched * found.evaluations_per_second, 2),
        history=_history(found),
    )
    return figures, files


def _tiling(side: int) -> tuple[HogTiling, File]:
    sides = [size for size in TILE_SIDES if size <= side]
    best = best_tiling(own_face("drawn"), sides, height=side, width=side)
    tiling = HogTiling(
        picture="tiling.png",
        side=best.side,
        found=len(best.detections),
        published=PUBLISHED_TILING,
    )
    return tiling, File("tiling.png", png(best.picture))


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


def draw_design(settings: HogSettings, pattern: Picture) -> tuple[MaskDesign, list[File]]:
    """Draw a pattern as it is, and to be printed."""
    worn = settings.objective == "hide"
    width, height = pictures.printed_size(worn=worn)
    page = pictures.page(pattern, worn=worn)
    files = [
        File("pattern.png", png(pattern)),
        File("design-0.pdf", page, "application/pdf"),
        File("design-0.png", pictures.print_png(pattern, worn=worn)),
    ]
    design = MaskDesign(
        picture="design-0.png",
        page="design-0.pdf",
        width_mm=round(width, 2),
        height_mm=round(height, 2),
        non_printability=round(_non_printability(pattern), 4),
    )
    return design, files


def _non_printability(pattern: Picture) -> float:
    total = 0.0
    for start in range(0, len(pattern), STRIP):
        strip = torch.from_numpy(pattern[start : start + STRIP]).permute(2, 0, 1)[None] / 255
        total += float(non_printability(strip)) * strip.shape[2]
    return total / len(pattern)
