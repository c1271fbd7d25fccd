"""What an ``encrypt`` job reads: photos to cloak, of the person, of a target, of people by name."""

import logging

import torch
from torch import Tensor

from services.worker.faces.alignment import align
from services.worker.faces.cloaking.optimize import synthetic_identity
from services.worker.faces.cloaking.photo_file import PhotoFile, open_photo
from services.worker.jobs.encrypt.plan import Setting, configured
from services.worker.jobs.encrypt.whom import Whom, frame_of, whom_of
from services.worker.jobs.kit.models import face_detector
from services.worker.jobs.kit.recognizers import Roles, choose_recognizers, embeddings_of
from services.worker.runtime.context import JobContext
from shared.problems import Problem
from shared.specs.encrypt import EncryptSpec, PhotosTarget, SyntheticTarget

logger = logging.getLogger(__name__)


def prepare(context: JobContext, spec: EncryptSpec) -> Setting:
    """Load what a job names; raises ``Problem`` for what it may not have or cannot be."""
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
    targets = _targets(context, spec, roles)
    return Setting(spec, config, roles, others, targets, people, _whom(context, spec, roles))


def _whom(context: JobContext, spec: EncryptSpec, roles: Roles) -> Whom | None:
    for keep, ids in (("only", spec.only), ("except", spec.except_)):
        frames = _frames_of(context, spec, ids, keep)
        if frames is not None:
            return whom_of(keep, frames, (*roles.surrogates, *roles.judges))  # type: ignore[arg-type]
    return None


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
        photo = opened(context, spec.image_ids.index(image_id)).pixels
        faces = detector.detect(photo)
        if not faces:
            raise Problem("invalid-input", f"No face was found in {image_id}, named in `{field}`.")
        frames.append(frame_of(photo, align(faces[0].landmarks)))
    return torch.stack(frames)


def opened(context: JobContext, index: int) -> PhotoFile:
    """Open one of the job's files."""
    data, orientation = context.inputs.file(index)
    return open_photo(data, orientation)
