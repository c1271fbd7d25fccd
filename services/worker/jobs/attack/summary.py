"""The totals of an ``attack`` job over all its faces, its warnings and its pictures."""

import statistics
from collections.abc import Sequence

from services.worker.attacks.results import AttackResult as FaceOutcome
from services.worker.attacks.sanity import Side, check_together
from services.worker.evaluation.metrics import wilson
from services.worker.jobs.attack.checkpoint import Done
from services.worker.jobs.attack.inputs import Photos
from services.worker.jobs.attack.pictures import draw_curve, panels
from services.worker.jobs.kit.files import File
from services.worker.jobs.kit.pictures import draw_rows
from services.worker.jobs.kit.rates import as_rate, as_success_rate
from services.worker.models.registry import LoadedModel
from shared.results.attack import Norms, Spread, SuccessRate
from shared.results.evaluate import Rate

REPORT, CURVE = "report.png", "success-curve.png"


def success_of(counted: Sequence[FaceOutcome]) -> SuccessRate:
    """Return the share of counted faces that were fooled."""
    return as_success_rate(wilson(sum(one.success for one in counted), len(counted)))


def median_queries(counted: Sequence[FaceOutcome]) -> float | None:
    """Return the median of the queries to success, over successes."""
    asked = [one.query_at_success for one in counted if one.success and one.query_at_success]
    return statistics.median(asked) if asked else None


def mean_confidence_drop(counted: Sequence[FaceOutcome]) -> float | None:
    """Return how far the confidence of the true label fell, on average."""
    drops = [one.confidence_before - one.confidence_after for one in counted]
    return statistics.fmean(drops) if drops else None


def norms_of(counted: Sequence[FaceOutcome]) -> Norms | None:
    """Return how much was changed where it fooled."""
    fooled = [one for one in counted if one.success]
    if not fooled:
        return None

    def spread(values: Sequence[float]) -> Spread:
        return Spread(median=round(statistics.median(values), 4), largest=round(max(values), 4))

    return Norms(
        changed_pixels=spread([one.l0 for one in fooled]),
        l2=spread([one.l2 for one in fooled]),
        linf=spread([one.linf for one in fooled]),
    )


def clean_accuracy(outcomes: Sequence[FaceOutcome]) -> Rate:
    """Return how many faces were classified right before the attack."""
    return as_rate(wilson(sum(one.correct_before for one in outcomes), len(outcomes)))


def warnings_of(
    done: Done, photos: Photos, loaded: LoadedModel, *, everywhere: bool
) -> tuple[str, ...]:
    """Say what makes the figures doubtful; an iterated attack is held against one step."""
    found = list(photos.warnings)
    empty = sum(not image.faces for image in done.images)
    if empty:
        found.append(f"no face was found in {empty} of {len(done.images)} photos")
    if done.search is not None:
        batches = (done.search.batch, done.search.one_step)
        sha256 = loaded.card.sha256
        sides = [Side(batch, sha256, everywhere) for batch in batches if batch is not None]
        found += [warning.message for warning in check_together(sides)]
    return tuple(dict.fromkeys(found))


def draw(done: Done, classes: Sequence[str]) -> tuple[File, ...]:
    """Draw the first faces, and success against queries; nothing where no face was attacked."""
    if not done.outcomes:
        return ()
    rows = [
        panels(before, after, outcome, classes)
        for (before, after), outcome in zip(done.shown, done.outcomes, strict=False)
    ]
    return File(REPORT, draw_rows(rows)), File(CURVE, draw_curve(done.delivered))
