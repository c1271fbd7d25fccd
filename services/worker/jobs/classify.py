"""``classify``: finds faces and tells who wears a mask; several jobs share one forward pass."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from services.worker.faces.crops import Pixels
from services.worker.jobs.kit.faces import (
    Corners,
    Located,
    as_box,
    as_searched,
    cut,
    given,
    require_crops,
    search,
    set_upright,
)
from services.worker.jobs.kit.models import mask_model
from services.worker.jobs.kit.pictures import MAX_SIDE, Mark, draw_marks
from services.worker.jobs.kit.provenance import device_name, model_used, versions
from services.worker.models.registry import LoadedModel
from services.worker.runtime.context import JobContext
from shared.images import ImageRejectedError
from shared.problems import Problem
from shared.results import Timing
from shared.results.base import FacesSearched
from shared.results.classify import ClassifiedFace, ClassifiedImage, ClassifyResult
from shared.specs.classify import ClassifySpec

IMAGES_AT_ONCE = 32
# Of photos that wait, decoded, to be searched together: several small ones, or one large one.
PIXELS_AT_ONCE = 4_000_000
SEARCHED_AT_ONCE = 8  # between two of them a job can be stopped
FACES_AT_ONCE = 64

Item = tuple[JobContext, ClassifySpec]
Seconds = defaultdict[str, float]


@dataclass(frozen=True)
class _Decoded:
    """One photo as it was decoded, with the faces that its job gives."""

    item: int
    index: int
    image: Pixels
    given: Located | None


@dataclass
class _Photo:
    """One photo on its way through a batch."""

    item: int
    index: int
    picture: Pixels | None  # reduced, for drawing
    scale: float
    size: tuple[int, int]
    boxes: list[Corners]
    scores: list[float | None]
    searched: FacesSearched | None
    crops: Tensor


@dataclass
class _Progress:
    """What is known of one job of the batch."""

    context: JobContext
    spec: ClassifySpec
    images: list[ClassifiedImage] = field(default_factory=list)
    error: Exception | None = None


def run(context: JobContext, spec: ClassifySpec) -> ClassifyResult:
    """Classify the images of one job."""
    outcome = run_batch([(context, spec)])[0]
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def run_batch(items: Sequence[Item]) -> list[ClassifyResult | Exception]:
    """Classify the images of several jobs; one job's bad image ends that job only.

    One name can resolve to different models per tenant: each model is a pass of its own.
    """
    outcomes: dict[int, ClassifyResult | Exception] = {}
    by_model: dict[str, tuple[LoadedModel, list[int]]] = {}
    for number, (context, spec) in enumerate(items):
        try:
            loaded = mask_model(context, model_id=spec.model)
            given_faces = sum(map(len, spec.boxes or ()))
            require_crops(given_faces, size=loaded.classifier.input_size[0])
        except Problem as problem:
            outcomes[number] = problem
            continue
        by_model.setdefault(loaded.card.identity, (loaded, []))[1].append(number)
    for loaded, numbers in by_model.values():
        outcomes |= zip(numbers, _run_pass([items[n] for n in numbers], loaded), strict=True)
    return [outcomes[number] for number in range(len(items))]


def _run_pass(items: Sequence[Item], loaded: LoadedModel) -> list[ClassifyResult | Exception]:
    began = time.monotonic()
    seconds: Seconds = defaultdict(float)
    jobs = [_Progress(context, spec) for context, spec in items]
    for photos in _chunks(jobs, loaded, seconds):
        start = time.monotonic()
        probabilities = _probabilities(loaded, [photo.crops for photo in photos])
        seconds["classify"] += time.monotonic() - start
        start = time.monotonic()
        for photo, rows in zip(photos, probabilities, strict=True):
            job = jobs[photo.item]
            job.images.append(_classified(job, photo, rows, loaded.card.classes))
        for item in dict.fromkeys(photo.item for photo in photos):
            job = jobs[item]
            done, total = len(job.images), len(job.spec.images)
            job.context.progress(done, total, f"{done} of {total} photos")
        seconds["draw and store"] += time.monotonic() - start
    timing = Timing(
        total=round(time.monotonic() - began, 4),
        parts={name: round(value, 4) for name, value in seconds.items()},
        batch_jobs=len(jobs),
    )
    return [job.error or _result(job, loaded, timing) for job in jobs]


def _chunks(
    jobs: Sequence[_Progress], loaded: LoadedModel, seconds: Seconds
) -> Iterator[list[_Photo]]:
    """Yield photos with their faces cut out, so many at once that memory stays bounded."""
    photos: list[_Photo] = []
    for some in _decoded(jobs, seconds):
        photos += _cut_out(some, jobs, loaded, seconds)
        if len(photos) >= IMAGES_AT_ONCE:
            yield photos
            photos = []
    if photos:
        yield photos


def _decoded(jobs: Sequence[_Progress], seconds: Seconds) -> Iterator[list[_Decoded]]:
    """Yield photos that may be searched together; a job ends at its first bad one."""
    some: list[_Decoded] = []
    pixels = 0
    for number, job in enumerate(jobs):
        for index in range(len(job.spec.images)):
            start = time.monotonic()
            try:
                image = job.context.inputs.image(index)
                some.append(_Decoded(number, index, image, given(job.spec, index, image)))
            except (ImageRejectedError, Problem) as error:
                job.error = error
                break
            finally:
                seconds["decode"] += time.monotonic() - start
            pixels += image.shape[0] * image.shape[1]
            if pixels >= PIXELS_AT_ONCE or len(some) == SEARCHED_AT_ONCE:
                yield some
                some.clear()  # before the next is decoded: a large photo takes 120 MB
                pixels = 0
    if some:
        yield some


def _cut_out(
    some: Sequence[_Decoded], jobs: Sequence[_Progress], loaded: LoadedModel, seconds: Seconds
) -> list[_Photo]:
    """Find the faces that no job gives, in all photos at once, and cut all faces out."""
    start = time.monotonic()
    located = _located(some, jobs)
    seconds["find faces"] += time.monotonic() - start
    return [
        _photo(photo, faces, jobs[photo.item].spec, loaded)
        for photo, faces in zip(some, located, strict=True)
    ]


def _located(some: Sequence[_Decoded], jobs: Sequence[_Progress]) -> list[Located]:
    """Search photos together whose jobs ask for the same faces."""
    alike: dict[tuple[int, bool], list[int]] = defaultdict(list)
    for number, photo in enumerate(some):
        if photo.given is None:
            spec = jobs[photo.item].spec
            alike[spec.min_face, spec.upright].append(number)
    located = {n: photo.given for n, photo in enumerate(some) if photo.given is not None}
    for (min_face, upright), numbers in alike.items():
        found = search(
            jobs[some[numbers[0]].item].context,
            [some[number].image for number in numbers],
            min_face=min_face,
            turns="if none" if upright else "all",
        )
        located |= zip(numbers, found, strict=True)
    return [located[number] for number in range(len(some))]


def _photo(decoded: _Decoded, faces: Located, spec: ClassifySpec, loaded: LoadedModel) -> _Photo:
    image = decoded.image
    size = loaded.classifier.input_size[0]
    crops = cut(spec, image, faces.boxes, size=size, margin=loaded.card.crop_margin)
    crops = set_upright(crops, faces.turns)
    scale = min(1.0, MAX_SIDE / max(image.shape[:2]))
    picture = _reduced(image, scale) if spec.annotate else None
    height, width = image.shape[:2]
    return _Photo(
        decoded.item,
        decoded.index,
        picture,
        scale,
        (width, height),
        faces.boxes,
        faces.scores,
        as_searched(faces.searched) if faces.searched else None,
        crops,
    )


def _reduced(image: Pixels, scale: float) -> Pixels:
    if scale == 1:
        return image
    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


@torch.inference_mode()
def _probabilities(loaded: LoadedModel, crops: list[Tensor]) -> list[list[list[float]]]:
    """Return, for each photo, the class probabilities of each of its faces."""
    faces = torch.cat(crops)
    if not len(faces):
        return [[] for _ in crops]
    rows = [
        loaded.classifier(
            part.to(loaded.device).contiguous(memory_format=torch.channels_last)
        ).softmax(1)
        for part in faces.split(FACES_AT_ONCE)
    ]
    values = torch.cat(rows).cpu().split([len(part) for part in crops])
    return [part.tolist() for part in values]


def _classified(
    job: _Progress, photo: _Photo, rows: list[list[float]], classes: tuple[str, ...]
) -> ClassifiedImage:
    faces, marks = [], []
    for box, score, row in zip(photo.boxes, photo.scores, rows, strict=True):
        best = max(range(len(row)), key=row.__getitem__)
        faces.append(
            ClassifiedFace(
                box=as_box(box),
                detection_score=None if score is None else round(score, 4),
                label=classes[best],
                probabilities={name: round(p, 6) for name, p in zip(classes, row, strict=True)},
            )
        )
        text = f"{classes[best].replace('_', ' ')} {row[best]:.0%}"
        marks.append(Mark(box, text, best))
    name = None
    if photo.picture is not None:
        drawn = draw_marks(photo.picture, marks, scale=photo.scale)
        name = job.context.artifacts.put(
            f"annotated-{photo.index}.jpg", drawn, "image/jpeg", image=photo.index
        )
    width, height = photo.size
    return ClassifiedImage(
        image=job.spec.images[photo.index],
        width=width,
        height=height,
        faces=tuple(faces),
        searched=photo.searched,
        annotated=name,
        notes=job.context.inputs.notes(photo.index),
    )


def _result(job: _Progress, loaded: LoadedModel, timing: Timing) -> ClassifyResult:
    counts = Counter(face.label for image in job.images for face in image.faces)
    empty = sum(not image.faces for image in job.images)
    warnings = (f"no face was found in {empty} of {len(job.images)} photos",) if empty else ()
    return ClassifyResult(
        parameters={
            **job.spec.model_dump(mode="json", exclude={"images"}),
            "model": loaded.card.id,
        },
        models=(model_used(loaded),),
        device=device_name(loaded.device),
        versions=versions(),
        timing=timing,
        main_artifact=job.images[0].annotated,
        warnings=warnings,
        images=tuple(job.images),
        counts={name: counts[name] for name in loaded.card.classes},
    )
