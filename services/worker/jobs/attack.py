"""``attack``: changes faces until the classifier errs, and checks what is delivered."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from services.worker.attacks.results import AttackBatch
from services.worker.attacks.results import AttackResult as FaceOutcome
from services.worker.attacks.sanity import Side, check_together
from services.worker.jobs.attack_at_photo import PhotoAttack, search_photo
from services.worker.jobs.attack_delivery import (
    Delivered,
    deliver_crops,
    deliver_photo,
    untouched,
)
from services.worker.jobs.attack_drawing import SHOWN_FACES, draw_curve
from services.worker.jobs.attack_photos import Photo, Photos, label_number
from services.worker.jobs.attack_region import region_of
from services.worker.jobs.attack_search import Search, build, criterion_of, logits_of, search
from services.worker.jobs.drawing import Panel, draw_rows
from services.worker.jobs.provenance import device_name, model_used, versions
from services.worker.jobs.warmth import face_detector, mask_model
from services.worker.models.registry import LoadedModel
from services.worker.runtime.context import JobContext
from services.worker.training.evaluation.outcomes import join
from services.worker.training.metrics import wilson
from shared.results import Timing
from shared.results.attack import AttackedImage, AttackResult, Norms, Spread, SuccessRate
from shared.results.evaluate import Rate
from shared.specs.attack import AttackSpec

PHOTOS_AT_ONCE = {"model": 16, "photo": 4}
_NO_PICTURE = np.zeros((1, 1, 3), dtype=np.uint8)


@dataclass
class _Job:
    """What is known of a job while it goes on."""

    context: JobContext
    spec: AttackSpec
    loaded: LoadedModel
    setting: PhotoAttack
    photos: Photos
    images: list[AttackedImage] = field(default_factory=list)
    outcomes: list[FaceOutcome] = field(default_factory=list)  # of all faces, without pictures
    searches: list[Search] = field(default_factory=list)
    rows: list[Sequence[Panel]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return self.loaded.classifier.input_size[0]


def run(context: JobContext, spec: AttackSpec) -> AttackResult:
    """Attack the faces of one job's images, a chunk of photos at a time."""
    began = time.monotonic()
    loaded = mask_model(context, model_id=spec.model)
    target = label_number(spec.target, loaded.card.classes, "target")
    asks = spec.data is None and spec.faces == "auto"
    detect = face_detector(context.models, context.device).detect if asks else None
    setting = PhotoAttack(spec, build(spec.attack), loaded, target, detect, context.check)
    job = _Job(context, spec, loaded, setting, Photos(context, spec, loaded))
    at_once = PHOTOS_AT_ONCE[spec.at]
    for start in range(0, len(job.photos), at_once):
        _chunk(job, range(start, min(start + at_once, len(job.photos))))
    report = curve = None
    if job.outcomes:
        report = context.put_artifact("report.png", draw_rows(job.rows), "image/png")
        picture = draw_curve(_whole(job, job.outcomes))
        curve = context.put_artifact("success-curve.png", picture, "image/png")
    counted = [outcome for outcome in job.outcomes if outcome.counted]
    fooled = [outcome for outcome in counted if outcome.success]
    rate = wilson(len(fooled), len(counted))
    queries = [outcome.query_at_success for outcome in fooled if outcome.query_at_success]
    drops = [outcome.confidence_before - outcome.confidence_after for outcome in counted]
    return AttackResult(
        parameters={
            **spec.model_dump(mode="json", exclude={"images"}),
            "model": loaded.card.id,
        },
        models=(model_used(loaded),),
        device=device_name(loaded.device),
        versions=versions(),
        timing=Timing(total=round(time.monotonic() - began, 4)),
        main_artifact=report,
        warnings=_warnings(job),
        images=tuple(job.images),
        clean_accuracy=_clean_accuracy(job),
        success=SuccessRate(
            successes=len(fooled),
            counted=len(counted),
            rate=rate.value if counted else None,
            low=rate.low,
            high=rate.high,
        ),
        median_queries=statistics.median(queries) if queries else None,
        mean_confidence_drop=statistics.fmean(drops) if drops else None,
        norms=_norms(fooled),
        report=report,
        curve=curve,
    )


def _chunk(job: _Job, numbers: range) -> None:
    """Attack the faces of some photos and deliver them."""
    photos = [job.photos.read(number) for number in numbers]
    if any(photo.boxes for photo in photos):
        attacked = _photos_attacked if job.spec.at == "photo" else _crops_attacked
        found = attacked(job, numbers, photos)
        job.searches.append(_without_pictures(found))
    start = 0
    for number, photo in zip(numbers, photos, strict=True):
        own = slice(start, start + len(photo.boxes))
        start = own.stop
        _add(job, _delivered(job, number, photo, found, own) if photo.boxes else untouched(photo))


def _delivered(job: _Job, number: int, photo: Photo, found: Search, own: slice) -> Delivered:
    outcomes, context = found.batch.results[own], job.context
    if job.spec.at == "photo":
        places = found.places[own]
        return deliver_photo(context, job.setting, photo, outcomes, places, index=number)
    target = job.setting.target
    return deliver_crops(context, job.loaded, photo, outcomes, index=number, target=target)


def _add(job: _Job, delivered: Delivered) -> None:
    job.images.append(delivered.image)
    job.outcomes += delivered.outcomes
    job.rows += delivered.rows[: SHOWN_FACES - len(job.rows)]


def _crops_attacked(job: _Job, numbers: range, photos: Sequence[Photo]) -> Search:
    """Attack the faces of photos in their crops, all in one batch."""
    margin, model = job.loaded.card.crop_margin, job.loaded.classifier
    crops = torch.cat([photo.crops(size=job.size, margin=margin) for photo in photos])
    allowed = [region_of(job.spec, photo, size=job.size, margin=margin) for photo in photos]
    return search(
        job.setting.attack,
        model,
        crops,
        criterion_of(logits_of(model, crops), labels=_labels(photos), target=job.setting.target),
        allowed=torch.cat(allowed),
        first=len(job.outcomes),
        seed=job.spec.seed,
        progress=_told(job, numbers),
        check_cancel=job.context.check,
    )


def _labels(photos: Sequence[Photo]) -> tuple[int, ...] | None:
    known = [photo.labels for photo in photos if photo.labels is not None]
    return tuple(label for labels in known for label in labels) if known else None


def _photos_attacked(job: _Job, numbers: range, photos: Sequence[Photo]) -> Search:
    """Attack the faces of photos at their own size, one after another."""
    first, found = len(job.outcomes), []
    for number, photo in zip(numbers, photos, strict=True):
        if photo.boxes:
            told = _told(job, range(number, number + 1))
            found.append(search_photo(job.setting, photo, first=first, progress=told))
        first += len(photo.boxes)
    one_steps = [one.one_step for one in found if one.one_step is not None]
    return Search(
        join([one.batch for one in found]),
        join(one_steps) if one_steps else None,
        tuple(place for one in found for place in one.places),
    )


def _told(job: _Job, numbers: range) -> Callable[[int, int, str], None]:
    """Return a progress callback for the attack on the photos ``numbers``."""
    total = len(job.photos)

    def progress(step: int, steps: int, said: str) -> None:
        done = round(100 * (numbers.start + len(numbers) * step / steps))
        where = f"photos {numbers.start + 1} to {numbers.stop} of {total}"
        job.context.progress(done, 100 * total, f"{where}, step {step} of {steps}, {said}")

    return progress


def _without_pictures(found: Search) -> Search:
    def stripped(batch: AttackBatch) -> AttackBatch:
        results = (replace(result, adversarial=_NO_PICTURE) for result in batch.results)
        return replace(batch, results=tuple(results))

    one_step = None if found.one_step is None else stripped(found.one_step)
    return Search(stripped(found.batch), one_step)


def _whole(job: _Job, outcomes: Sequence[FaceOutcome]) -> AttackBatch:
    """Return the outcomes as one run."""
    return replace(job.searches[0].batch, results=tuple(outcomes))


def _warnings(job: _Job) -> tuple[str, ...]:
    """Say what makes the figures doubtful; an iterated attack is held against one step."""
    found = list(job.photos.warnings)
    empty = sum(not image.faces for image in job.images)
    if empty:
        found.append(f"no face was found in {empty} of {len(job.images)} photos")
    if job.searches:
        sha256 = job.loaded.card.sha256
        sides = [Side(join([one.batch for one in job.searches]), sha256)]
        steps = [one.one_step for one in job.searches if one.one_step is not None]
        if steps:
            sides.append(Side(join(steps), sha256))
        found += [warning.message for warning in check_together(sides)]
    return tuple(dict.fromkeys(found))


def _clean_accuracy(job: _Job) -> Rate | None:
    if not job.photos.labeled:
        return None
    right = wilson(sum(one.correct_before for one in job.outcomes), len(job.outcomes))
    return Rate(
        successes=right.successes,
        total=right.total,
        rate=right.value if right.total else None,
        low=right.low,
        high=right.high,
    )


def _norms(fooled: Sequence[FaceOutcome]) -> Norms | None:
    if not fooled:
        return None

    def spread(values: Sequence[float]) -> Spread:
        return Spread(median=round(statistics.median(values), 4), largest=round(max(values), 4))

    return Norms(
        changed_pixels=spread([one.l0 for one in fooled]),
        l2=spread([one.l2 for one in fooled]),
        linf=spread([one.linf for one in fooled]),
    )
