"""``encrypt``: cloaks faces, and verifies it on the bytes that are delivered."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.worker.faces.alignment import Alignment, align, cut_frame
from services.worker.faces.cloaking.apply import apply_cloaks, region_of
from services.worker.faces.cloaking.config import PRESETS, CloakConfig
from services.worker.faces.cloaking.optimize import (
    Cloak,
    Subject,
    cloak_faces,
    synthetic_identity,
)
from services.worker.faces.cloaking.photo_file import PhotoFile, open_photo
from services.worker.faces.cloaking.verify import overlap
from services.worker.faces.crops import Pixels
from services.worker.faces.face import Corners, Face
from services.worker.jobs.encrypt_report import amplified, report_card
from services.worker.jobs.encrypt_verify import Verified, job_verdict, least, verify_photo
from services.worker.jobs.locating import as_box
from services.worker.jobs.provenance import device_name, versions
from services.worker.jobs.recognizers import (
    LoadedRecognizer,
    Roles,
    choose_recognizers,
    embeddings_of,
    held_out,
)
from services.worker.jobs.warmth import face_detector
from services.worker.runtime.context import JobContext
from shared.images import ImageLimits, sanitize
from shared.problems import Problem
from shared.results import ModelUsed, Timing
from shared.results.encrypt import (
    EncryptedFace,
    EncryptedImage,
    EncryptResult,
    RecognizerUsed,
    Verdict,
)
from shared.specs.base import Box
from shared.specs.encrypt import EncryptSpec, PhotosTarget, SyntheticTarget

logger = logging.getLogger(__name__)

Landmarks = Callable[[Pixels, Corners], NDArray[np.float32]]
SAME_FACE = 0.3
FACES_AT_ONCE = 16
WARNINGS = (
    "cloaking does not protect against recognizers that were trained on cloaked photos, nor does "
    "it change photos that are public already",
    "the verdict holds for the recognizers named, not for every one there is",
)
_SUFFIXES = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}


@dataclass(frozen=True)
class _Chosen:
    """A face to cloak: where it is, and how its frame lies."""

    box: Corners
    score: float | None
    alignment: Alignment


@dataclass(frozen=True)
class _Setting:
    """What all photos of a job share."""

    spec: EncryptSpec
    config: CloakConfig
    roles: Roles
    others: Tensor | None
    targets: tuple[Tensor, ...] | None
    people: dict[str, Tensor]

    @property
    def all(self) -> tuple[LoadedRecognizer, ...]:
        return (*self.roles.surrogates, *self.roles.judges)


def run(context: JobContext, spec: EncryptSpec) -> EncryptResult:
    """Cloak the faces of one job's photos."""
    began = time.monotonic()
    setting = _prepare(context, spec)
    images: list[EncryptedImage] = []
    searching = faces = 0.0
    for index in range(len(spec.images)):
        image, seconds = _photo(context, setting, index)
        images.append(image)
        searching += seconds
        faces += len(image.faces)
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


def configured(spec: EncryptSpec) -> CloakConfig:
    """Return the preset with what the spec changes."""
    return replace(PRESETS[spec.preset], **spec.parameters.model_dump(exclude_none=True))


def _prepare(context: JobContext, spec: EncryptSpec) -> _Setting:
    config = configured(spec)
    if config.eps < 1:
        raise Problem("invalid-input", "An eps under 1/255 changes nothing on the 8-bit grid.")
    _refuse_target(context, spec)
    roles = choose_recognizers(context, spec.recognizers, spec.judges)
    others = _frames_of(context, spec, spec.other_photos, "other_photos")
    people = {
        person.name: frames
        for person in spec.people
        if (frames := _frames_of(context, spec, person.images, "people")) is not None
    }
    return _Setting(spec, config, roles, others, _targets(context, spec, roles), people)


def _refuse_target(context: JobContext, spec: EncryptSpec) -> None:
    """Refuse a target that the operator does not allow; log the use of one."""
    if spec.target is None:
        return
    allowed = context.settings.targeted
    needs = "synthetic" if isinstance(spec.target, SyntheticTarget) else "consented"
    if allowed == "off" or (allowed == "synthetic" and needs == "consented"):
        raise Problem(
            "target-not-allowed",
            f"This service has BAUTA_TARGETED={allowed}: a target of the kind "
            f"{spec.target.towards!r} is not accepted.",
        )
    # To pass as someone is what such a target can be misused for: its use leaves a trace.
    logger.warning(
        "%s of tenant %s moves faces towards a target: %s",
        context.job_id,
        context.tenant_id,
        spec.target.towards,
    )


def _targets(context: JobContext, spec: EncryptSpec, roles: Roles) -> tuple[Tensor, ...] | None:
    if spec.target is None:
        return None
    if isinstance(spec.target, PhotosTarget):
        frames = _frames_of(context, spec, spec.target.images, "target")
        if frames is None:
            raise Problem("invalid-input", "No face was found in the target's photos.")
        return tuple(
            torch.nn.functional.normalize(embeddings_of(one, frames).mean(0), dim=0)
            for one in (*roles.surrogates, *roles.judges)
        )
    without = [one.card.id for one in roles.surrogates if not one.recognizer.knows_faces]
    if without:
        raise Problem(
            "invalid-input",
            f"{', '.join(without)} has no statistics of faces to draw a synthetic person from: "
            "name other recognizers.",
        )
    return tuple(synthetic_identity(one.recognizer, spec.seed) for one in roles.surrogates)


def _frames_of(
    context: JobContext, spec: EncryptSpec, ids: tuple[str, ...], field: str
) -> Tensor | None:
    """Return the largest face of each of these photos, aligned, ``(K, 3, 160, 160)``."""
    if not ids:
        return None
    frames = []
    detector = face_detector(context.models, context.device)
    for image_id in ids:
        photo = _open(context, spec.image_ids.index(image_id)).pixels
        faces = detector.detect(photo)
        if not faces:
            raise Problem("invalid-input", f"No face was found in {image_id}, named in `{field}`.")
        frames.append(_frame(photo, align(faces[0].landmarks)))
    return torch.stack(frames)


def _open(context: JobContext, index: int) -> PhotoFile:
    data, orientation = context.load_file(index)
    return open_photo(data, orientation)


def _frame(photo: Pixels, alignment: Alignment) -> Tensor:
    return torch.from_numpy(cut_frame(photo, alignment)).permute(2, 0, 1).float() / 255


def _photo(context: JobContext, setting: _Setting, index: int) -> tuple[EncryptedImage, float]:
    """Cloak one photo; returns it and the seconds that the search took."""
    spec = setting.spec
    file = _open(context, index)
    chosen = _choose(context, spec, index, file.pixels)
    if not chosen:
        return _untouched(context, spec, index, file), 0.0
    began = time.monotonic()
    cloaks = _search(context, setting, index, file, chosen)
    seconds = time.monotonic() - began
    alignments = [face.alignment for face in chosen]
    applied = apply_cloaks(
        file.pixels,
        alignments,
        [cloak.change for cloak in cloaks],
        eps=setting.config.eps,
    )
    data = file.write(applied.photo)
    context.progress(100 * index + 90, 100 * len(spec.images), f"verifying photo {index + 1}")
    delivered = reopened(context, data)
    verified = verify_photo(
        context,
        clean=file.pixels,
        delivered=delivered,
        boxes=[face.box for face in chosen],
        alignments=alignments,
        surrogates=setting.roles.surrogates,
        judges=setting.roles.judges,
        others=setting.others,
        targets=setting.targets,
        people=setting.people,
    )
    faces = tuple(
        _face(face, cloak, result, file.pixels, applied.photo)
        for face, cloak, result in zip(chosen, cloaks, verified, strict=True)
    )
    verdict = least([face.verdict for face in faces])
    name = f"{verdict}-{index}.{_SUFFIXES[file.media_type]}"
    height, width = file.pixels.shape[:2]
    return EncryptedImage(
        image=spec.images[index],
        width=width,
        height=height,
        media_type=file.media_type,
        lossless=file.lossless,
        verdict=verdict,
        faces=faces,
        photo=context.put_artifact(name, data, file.media_type),
        difference=context.put_artifact(
            f"difference-{index}.png", amplified(file.pixels, delivered), "image/png"
        ),
        report=context.put_artifact(
            f"report-{index}.png",
            report_card(file.pixels, delivered, alignments, faces),
            "image/png",
        ),
        notes=file.notes,
    ), seconds


def reopened(context: JobContext, data: bytes) -> Pixels:
    """Read what is delivered as a stranger would: from its bytes alone."""
    limits = ImageLimits(max_bytes=2**31, max_pixels=context.settings.max_image_pixels)
    stored = sanitize(data, limits)
    return open_photo(stored.data, stored.orientation).pixels


def _untouched(
    context: JobContext, spec: EncryptSpec, index: int, file: PhotoFile
) -> EncryptedImage:
    """Deliver a photo without a face: its metadata are gone, and nothing else happened."""
    height, width = file.pixels.shape[:2]
    data = file.write(file.pixels)
    name = f"no-face-{index}.{_SUFFIXES[file.media_type]}"
    return EncryptedImage(
        image=spec.images[index],
        width=width,
        height=height,
        media_type=file.media_type,
        lossless=file.lossless,
        verdict="no-face",
        faces=(),
        photo=context.put_artifact(name, data, file.media_type),
        difference=None,
        report=None,
        notes=(*file.notes, "no face was found: only the metadata were removed"),
    )


def _choose(context: JobContext, spec: EncryptSpec, index: int, photo: Pixels) -> list[_Chosen]:
    detector = face_detector(context.models, context.device)
    found = detector.detect(photo)
    if spec.boxes is None:
        return [_Chosen(face.box, face.score, align(face.landmarks)) for face in found]
    return [_named(box, found, photo, detector.landmarks) for box in spec.boxes[index]]


def _named(box: Box, found: list[Face], photo: Pixels, landmarks: Landmarks) -> _Chosen:
    """Return the face that a box means; where none was found, the box's own points."""
    height, width = photo.shape[:2]
    corners = (box.x, box.y, box.x + box.width, box.y + box.height)
    if min(corners[2], width) - max(corners[0], 0) < 1 or (
        min(corners[3], height) - max(corners[1], 0) < 1
    ):
        raise Problem("invalid-input", f"A box lies outside the photo's {width} x {height} pixels.")
    best = max(found, key=lambda face: overlap(face.box, corners), default=None)
    if best is not None and overlap(best.box, corners) >= SAME_FACE:
        return _Chosen(best.box, best.score, align(best.landmarks))
    return _Chosen(corners, None, align(landmarks(photo, corners)))


def _search(
    context: JobContext, setting: _Setting, index: int, file: PhotoFile, chosen: list[_Chosen]
) -> list[Cloak]:
    """Search all faces of a photo, a few at a time so that thirty fit in memory."""
    seeds = np.random.SeedSequence([setting.spec.seed, index]).generate_state(len(chosen))
    photos = len(setting.spec.images)
    targets = None
    if setting.targets is not None:
        targets = setting.targets[: len(setting.roles.surrogates)]
    subjects = [
        Subject(
            frame=_frame(file.pixels, face.alignment),
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


def _face(
    chosen: _Chosen, cloak: Cloak, verified: Verified, clean: Pixels, cloaked: Pixels
) -> EncryptedFace:
    height, width = clean.shape[:2]
    x0, y0, x1, y1 = region_of(chosen.alignment, height, width)
    before = clean[y0:y1, x0:x1].astype(np.int16)
    largest = int(np.abs(before - cloaked[y0:y1, x0:x1]).max()) if before.size else 0
    return EncryptedFace(
        box=as_box(chosen.box),
        detection_score=None if chosen.score is None else round(chosen.score, 4),
        region=as_box((x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))),
        scale=round(chosen.alignment.scale, 4),
        verdict=verified.verdict,
        found_again=verified.found_again,
        similarities=verified.similarities,
        steps=cloak.steps,
        max_change=largest,
        max_change_delivered=verified.quality.largest,
        psnr=None if verified.quality.psnr is None else round(verified.quality.psnr, 2),
        ssim=round(verified.quality.ssim, 4),
    )


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
    """Fail when the job asks for more than it got: nothing is delivered then."""
    if spec.require is None:
        return
    enough = ("protected",) if spec.require == "protected" else ("protected", "weak")
    if verdict not in enough:
        counts = Counter(image.verdict for image in images)
        said = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise Problem(
            "not-protected",
            f"`require` asks for {spec.require!r}; of {len(images)} photos: {said}.",
            verdict=verdict,
        )


def _warnings(setting: _Setting, images: list[EncryptedImage]) -> tuple[str, ...]:
    warnings = list(WARNINGS)
    empty = sum(not image.faces for image in images)
    if empty:
        warnings.append(f"no face was found in {empty} of {len(images)} photos")
    if not setting.roles.judges:
        warnings.append("no recognizer was held out, so nothing is verified")
    cards = [one.card for one in setting.roles.surrogates]
    for judge in setting.roles.judges:
        if not held_out(judge.card, cards):
            warnings.append(
                f"{judge.card.id} shares a teacher or training people with a surrogate, or does "
                "not say what it was trained on: it is not held out, and its word does not count"
            )
    missed = sum(not face.found_again for image in images for face in image.faces)
    if missed:
        warnings.append(
            f"{missed} faces are no longer found by the face finder; they were compared where "
            "they had been"
        )
    return tuple(warnings)


def _as_run(spec: EncryptSpec, setting: _Setting) -> dict[str, object]:
    parameters = spec.model_dump(mode="json", exclude={"images"})
    used = {name: getattr(setting.config, name) for name in type(spec.parameters).model_fields}
    return {
        **parameters,
        "parameters": used,
        "recognizers": [one.card.id for one in setting.roles.surrogates],
        "judges": [one.card.id for one in setting.roles.judges],
    }
