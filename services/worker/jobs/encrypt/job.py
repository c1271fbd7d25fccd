"""``encrypt``: cloaks faces, and verifies it on the bytes that are delivered."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from services.worker.faces.alignment import align
from services.worker.faces.boxes import SAME_FACE, overlap
from services.worker.faces.cloaking.optimize import Cloak, Subject, cloak_faces
from services.worker.faces.cloaking.photo_file import PhotoFile
from services.worker.faces.copies import smallest_face
from services.worker.faces.crops import Pixels
from services.worker.faces.face import Corners, Face
from services.worker.jobs.encrypt.checkpoint import EncryptCheckpoint
from services.worker.jobs.encrypt.chosen import Chosen
from services.worker.jobs.encrypt.delivery import deliver, hidden, untouched, with_cloaks
from services.worker.jobs.encrypt.inputs import opened, prepare
from services.worker.jobs.encrypt.plan import Setting
from services.worker.jobs.encrypt.verdict import is_missable, job_verdict
from services.worker.jobs.encrypt.whom import frame_of
from services.worker.jobs.kit.files import File, store
from services.worker.jobs.kit.models import face_detector
from services.worker.jobs.kit.provenance import device_name, versions
from services.worker.jobs.kit.recognizers import Roles, held_out
from services.worker.runtime.context import JobContext
from shared.problems import Problem
from shared.results import ModelUsed, Timing
from shared.results.encrypt import EncryptedImage, EncryptResult, LeftFace, RecognizerUsed, Verdict
from shared.specs.base import Box
from shared.specs.encrypt import EncryptSpec

Landmarks = Callable[[Pixels, Corners], NDArray[np.float32]]
FACES_AT_ONCE = 16
WARNINGS = (
    "cloaking does not protect against recognizers that were trained on cloaked photos, nor does "
    "it change photos that are public already",
    "the verdict holds for the recognizers named, not for every one there is",
)


def run(context: JobContext, spec: EncryptSpec) -> EncryptResult:
    """Cloak the faces of one job's photos; each photo is kept once it is done."""
    began = time.monotonic()
    setting = prepare(context, spec)
    checkpoint = EncryptCheckpoint(context, setting)
    done = checkpoint.load()
    for index in range(len(done.images), len(spec.images)):
        image, files, seconds = _photo(context, setting, index)
        store(context, files)
        done.add(image, files, seconds)
        checkpoint.save(done)
    images, searching = done.images, done.seconds
    faces = sum(len(image.faces) for image in images)
    verdict = job_verdict([image.verdict for image in images])
    _refuse_less(spec, verdict, images)
    return EncryptResult(
        parameters=_as_run(spec, setting),
        models=tuple(
            ModelUsed(id=one.card.id, architecture=one.card.architecture, sha256=one.card.sha256)
            for one in setting.all
        ),
        device=device_name(context.device),
        versions=versions(),
        timing=Timing(
            total=round(time.monotonic() - began, 4), parts={"search": round(searching, 4)}
        ),
        main_artifact=images[0].photo,
        verdict=verdict,
        warnings=_warnings(setting, images),
        images=tuple(images),
        verdicts=dict(Counter(image.verdict for image in images)),
        recognizers=_used(setting.roles),
        eps=int(setting.config.eps),
        seconds_a_face=round(searching / faces, 3) if faces else None,
    )


def _photo(
    context: JobContext, setting: Setting, index: int
) -> tuple[EncryptedImage, list[File], float]:
    """Cloak one photo; returns its part of the result, its files and the seconds of the search."""
    spec = setting.spec
    file = opened(context, index)
    file = replace(file, notes=(*context.inputs.notes(index), *file.notes))
    chosen = _choose(context, spec, index, file.pixels)
    # Where faces are named, nobody promised anything of the others.
    smallest = smallest_face(*file.pixels.shape[:2]) if spec.boxes is None else None
    left: tuple[LeftFace, ...] = ()
    if setting.whom is not None:
        chosen, left = setting.whom.split(file.pixels, chosen)
    whom = () if setting.whom is None else (setting.whom.note,)
    if not chosen:
        image, files = untouched(spec, index, file, left, whom, smallest=smallest)
        return image, files, 0.0
    detect = face_detector(context.models, context.device).detect
    max_pixels = context.settings.max_image_pixels
    began = time.monotonic()
    if spec.mode == "cloak":
        cloaks = _search(context, setting, index, file, chosen)
        altered = with_cloaks(setting, file, chosen, cloaks)
    else:

        def progress(share: float, message: str) -> None:
            context.progress(100 * index + round(88 * share), 100 * len(spec.images), message)

        altered = hidden(
            setting,
            file,
            chosen,
            detect=detect,
            max_pixels=max_pixels,
            check=context.check,
            progress=progress,
        )
    seconds = time.monotonic() - began
    altered = replace(altered, left=left, notes=(*altered.notes, *whom))
    context.progress(100 * index + 90, 100 * len(spec.images), f"verifying photo {index + 1}")
    image, files = deliver(
        setting,
        index,
        file,
        chosen,
        altered,
        smallest=smallest,
        detect=detect,
        max_pixels=max_pixels,
        check=context.check,
    )
    return image, files, seconds


def _choose(context: JobContext, spec: EncryptSpec, index: int, photo: Pixels) -> list[Chosen]:
    detector = face_detector(context.models, context.device)
    found = detector.detect(photo)
    if spec.boxes is None:
        return [Chosen(face.box, face.score, align(face.landmarks)) for face in found]
    return [_named(box, found, photo, detector.landmarks) for box in spec.boxes[index]]


def _named(box: Box, found: list[Face], photo: Pixels, landmarks: Landmarks) -> Chosen:
    """Return the face that a box means; where none was found, the box's own points."""
    height, width = photo.shape[:2]
    corners = (box.x, box.y, box.x + box.width, box.y + box.height)
    if min(corners[2], width) - max(corners[0], 0) < 1 or (
        min(corners[3], height) - max(corners[1], 0) < 1
    ):
        raise Problem("invalid-input", f"A box lies outside the photo's {width} x {height} pixels.")
    best = max(found, key=lambda face: overlap(face.box, corners), default=None)
    if best is not None and overlap(best.box, corners) >= SAME_FACE:
        return Chosen(best.box, best.score, align(best.landmarks))
    return Chosen(corners, None, align(landmarks(photo, corners)))


def _search(
    context: JobContext, setting: Setting, index: int, file: PhotoFile, chosen: list[Chosen]
) -> list[Cloak]:
    """Search all faces of a photo, a few at a time so that thirty fit in memory."""
    seeds = np.random.SeedSequence([setting.spec.seed, index]).generate_state(len(chosen))
    photos = len(setting.spec.images)
    targets = None
    if setting.targets is not None:
        targets = setting.targets[: len(setting.roles.surrogates)]
    subjects = [
        Subject(
            frame=frame_of(file.pixels, face.alignment),
            scale=face.alignment.scale,
            seed=int(seed),
            gray=file.gray,
            others=setting.others,
            targets=targets,
        )
        for face, seed in zip(chosen, seeds, strict=True)
    ]
    cloaks: list[Cloak] = []
    for start in range(0, len(subjects), FACES_AT_ONCE):
        part = subjects[start : start + FACES_AT_ONCE]

        def progress(step: int, steps: int, similarity: float, before: int = start) -> None:
            share = (before + len(part) * step / steps) / len(subjects)  # noqa: B023
            message = f"photo {index + 1} of {photos}: similarity {similarity:.2f}"
            done = 100 * index + round(88 * share)
            context.progress(done, 100 * photos, message, similarity=round(similarity, 4))

        recognizers = [one.recognizer for one in setting.roles.surrogates]
        cloaks += cloak_faces(
            part, recognizers, setting.config, progress=progress, check_cancel=context.check
        )
    return cloaks


def _used(roles: Roles) -> tuple[RecognizerUsed, ...]:
    cards = [one.card for one in roles.surrogates]
    return tuple(
        RecognizerUsed(
            id=one.card.id,
            architecture=one.card.architecture,
            sha256=one.card.sha256,
            role="judge" if one in roles.judges else "surrogate",
            lineage=one.card.lineage,
            people=one.people,
            thresholds=one.thresholds,
            held_out=one in roles.judges and held_out(one.card, cards),
        )
        for one in (*roles.surrogates, *roles.judges)
    )


def _refuse_less(spec: EncryptSpec, verdict: Verdict, images: list[EncryptedImage]) -> None:
    """Fail if the verdict is below ``require``: nothing is delivered then."""
    if spec.require is None:
        return
    enough = ("protected",) if spec.require == "protected" else ("protected", "weak")
    if verdict not in enough:
        counts = Counter(image.verdict for image in images)
        said = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise Problem(
            "not-protected",
            f"`require` demands {spec.require!r}; of {len(images)} photos: {said}.",
            verdict=verdict,
        )


def _warnings(setting: Setting, images: list[EncryptedImage]) -> tuple[str, ...]:
    warnings = list(WARNINGS)
    empty = sum(not image.faces for image in images)
    if empty:
        warnings.append(f"no face was found in {empty} of {len(images)} photos")
    small = sum(is_missable(image.smallest_face_searched) for image in images)
    if small:
        warnings.append(
            f"{small} of {len(images)} photos may show faces that were too small to be searched "
            "(their notes say how small), and so none of them is called protected: give such faces "
            "in `faces`, or send smaller photos"
        )
    if not setting.roles.judges:
        warnings.append("no recognizer was held out, so nothing is verified")
    cards = [one.card for one in setting.roles.surrogates]
    for judge in setting.roles.judges:
        if not held_out(judge.card, cards):
            warnings.append(
                f"{judge.card.id} shares a teacher or training people with a surrogate, or does "
                "not say what it was trained on: it is not held out, and its verdict is ignored"
            )
    missed = sum(not face.found_again for image in images for face in image.faces)
    if missed:
        warnings.append(
            f"{missed} faces are no longer found by the face finder; they were compared where "
            "they had been"
        )
    return tuple(warnings)


def _as_run(spec: EncryptSpec, setting: Setting) -> dict[str, object]:
    parameters = spec.model_dump(mode="json", exclude={"images"})
    used = {name: getattr(setting.config, name) for name in type(spec.parameters).model_fields}
    return {
        **parameters,
        "parameters": used,
        "recognizers": [one.card.id for one in setting.roles.surrogates],
        "judges": [one.card.id for one in setting.roles.judges],
    }
