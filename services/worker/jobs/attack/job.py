"""``attack``: changes faces until the classifier errs, and verifies the delivered files."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from services.worker.jobs.attack import summary as totals
from services.worker.jobs.attack.checkpoint import AttackCheckpoint, Done
from services.worker.jobs.attack.delivery import (
    Delivered,
    deliver_crops,
    deliver_photo,
    untouched,
)
from services.worker.jobs.attack.inputs import Photo, Photos, label_number
from services.worker.jobs.attack.photo_search import PhotoAttack, search_photo
from services.worker.jobs.attack.region import region_of
from services.worker.jobs.attack.search import (
    Search,
    criterion_of,
    joined,
    logits_of,
    search,
)
from services.worker.jobs.kit.attacks import build_attack
from services.worker.jobs.kit.files import File, store
from services.worker.jobs.kit.models import face_detector, mask_model
from services.worker.jobs.kit.provenance import device_name, model_used, versions
from services.worker.runtime.context import JobContext
from services.worker.stopping import Progress
from shared.results import Timing
from shared.results.attack import AttackResult
from shared.specs.attack import AttackSpec

PHOTOS_AT_ONCE = {"model": 16, "photo": 4}


@dataclass
class _Job:
    """The state of a running job."""

    context: JobContext
    setting: PhotoAttack
    photos: Photos
    done: Done

    @property
    def spec(self) -> AttackSpec:
        return self.setting.spec


def run(context: JobContext, spec: AttackSpec) -> AttackResult:
    """Attack the faces of one job's images, a chunk of photos at a time; each chunk is kept."""
    began = time.monotonic()
    loaded = mask_model(context, model_id=spec.model)
    target = label_number(spec.target, loaded.card.classes, "target")
    asks = spec.data is None and spec.faces == "auto"
    detect = face_detector(context.models, context.device).detect if asks else None
    attack = build_attack(spec.attack, asks=None if spec.at == "photo" else loaded)
    setting = PhotoAttack(spec, attack, loaded, target, detect, context.check)
    photos = Photos(context, spec, loaded)
    checkpoint = AttackCheckpoint(context, loaded.card.sha256, of_dataset=spec.data is not None)
    job = _Job(context, setting, photos, checkpoint.load())
    at_once = PHOTOS_AT_ONCE[spec.at]
    for start in range(len(job.done.images), len(photos), at_once):
        _chunk(job, range(start, min(start + at_once, len(photos))))
        checkpoint.save(job.done)
    done = job.done
    pictures = totals.draw(done, loaded.card.classes)
    store(context, pictures)
    report, curve = (file.name for file in pictures) if pictures else (None, None)
    counted = [outcome for outcome in done.outcomes if outcome.counted]
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
        warnings=totals.warnings_of(done, photos, loaded, everywhere=spec.region == "image"),
        images=tuple(done.images),
        clean_accuracy=totals.clean_accuracy(done.outcomes) if photos.labeled else None,
        success=totals.success_of(counted),
        median_queries=totals.median_queries(counted),
        mean_confidence_drop=totals.mean_confidence_drop(counted),
        norms=totals.norms_of(counted),
        report=report,
        curve=curve,
    )


def _chunk(job: _Job, numbers: range) -> None:
    """Attack the faces of some photos and deliver them."""
    photos = [job.photos.read(number) for number in numbers]
    deliver = _in_photos if job.spec.at == "photo" else _in_crops
    for delivered in deliver(job, numbers, photos):
        files: Sequence[File] = delivered.files
        if job.spec.data is not None:  # photos of a data set are no images of the job
            files = [replace(file, image=None) for file in files]
        store(job.context, files)
        job.done.deliver(delivered)


def _in_crops(job: _Job, numbers: range, photos: Sequence[Photo]) -> list[Delivered]:
    """Attack the faces of photos in their crops, all in one batch."""
    if not any(photo.boxes for photo in photos):
        return [untouched(photo) for photo in photos]
    setting = job.setting
    model, margin = setting.loaded.classifier, setting.loaded.card.crop_margin
    size = model.input_size[0]
    crops = torch.cat([photo.crops(size=size, margin=margin) for photo in photos])
    allowed = [region_of(job.spec, photo, size=size, margin=margin) for photo in photos]
    found = search(
        setting.attack,
        model,
        crops,
        criterion_of(logits_of(model, crops), labels=_labels(photos), target=setting.target),
        allowed=torch.cat(allowed),
        first=len(job.done.outcomes),
        seed=job.spec.seed,
        progress=_progress_callback(job, numbers),
        check_cancel=job.context.check,
    )
    job.done.searched(found)
    delivered, start = [], 0
    for number, photo in zip(numbers, photos, strict=True):
        own = found.batch.results[start : start + len(photo.boxes)]
        start += len(own)
        delivered.append(
            deliver_crops(
                setting.loaded,
                photo,
                own,
                index=number,
                target=setting.target,
                max_pixels=job.context.settings.max_image_pixels,
            )
            if own
            else untouched(photo)
        )
    return delivered


def _labels(photos: Sequence[Photo]) -> tuple[int, ...] | None:
    known = [photo.labels for photo in photos if photo.labels is not None]
    return tuple(label for labels in known for label in labels) if known else None


def _in_photos(job: _Job, numbers: range, photos: Sequence[Photo]) -> list[Delivered]:
    """Attack the faces of photos at their own size, one after another."""
    first, delivered = len(job.done.outcomes), []
    searches: list[Search] = []
    for number, photo in zip(numbers, photos, strict=True):
        if not photo.boxes:
            delivered.append(untouched(photo))
            continue
        progress = _progress_callback(job, range(number, number + 1))
        found = search_photo(job.setting, photo, first=first, progress=progress)
        searches.append(found.first)
        limit = job.context.settings.max_image_pixels
        delivered.append(deliver_photo(job.setting, photo, found, index=number, max_pixels=limit))
        first += len(photo.boxes)
    if searches:
        job.done.searched(joined(searches))
    return delivered


def _progress_callback(job: _Job, numbers: range) -> Progress:
    """Return a progress callback for the attack on the photos ``numbers``."""
    total = len(job.photos)

    def progress(step: int, steps: int, message: str) -> None:
        done = round(100 * (numbers.start + len(numbers) * step / steps))
        where = f"photos {numbers.start + 1} to {numbers.stop} of {total}"
        job.context.progress(done, 100 * total, f"{where}, step {step} of {steps}, {message}")

    return progress
