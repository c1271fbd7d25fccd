"""Delivers what an ``attack`` job found: encodes it, decodes the bytes again, and judges those."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from services.worker.attacks.results import AttackResult as FaceOutcome
from services.worker.encoding import png
from services.worker.faces.crops import Pixels
from services.worker.jobs.attack.inputs import Photo
from services.worker.jobs.attack.photo_search import (
    PhotoAttack,
    PhotoSearch,
    SeenAgain,
    assemble,
    judge,
)
from services.worker.jobs.attack.search import criterion_of, logits_of
from services.worker.jobs.kit.faces import as_box
from services.worker.jobs.kit.files import File
from services.worker.models.registry import LoadedModel
from shared.images import ImageLimits, decode_rgb, sanitize
from shared.results.attack import AttackedFace, AttackedImage
from shared.specs.base import Box

_NO_PICTURE = np.zeros((1, 1, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Delivered:
    """A photo's part of the result, and of its faces the outcomes without pictures.

    ``crops`` are the faces before and after, uint8 ``(2, S, S, 3)`` each; ``files`` are the
    attacked pictures.
    """

    image: AttackedImage
    outcomes: tuple[FaceOutcome, ...] = ()
    crops: tuple[Pixels, ...] = ()
    files: tuple[File, ...] = ()


def untouched(photo: Photo) -> Delivered:
    """Return the part of a photo without a face."""
    return Delivered(_image(photo, ()))


def deliver_crops(
    loaded: LoadedModel,
    photo: Photo,
    outcomes: Sequence[FaceOutcome],
    *,
    index: int,
    target: int | None,
    max_pixels: int,
) -> Delivered:
    """Deliver attacked crops and ask the model once more, about their bytes decoded again."""
    model, classes = loaded.classifier, loaded.card.classes
    files = [
        File(f"adversarial-{index}-{number}.png", png(outcome.adversarial), image=index)
        for number, outcome in enumerate(outcomes)
    ]
    decoded = np.stack([_reopened(file.data, max_pixels) for file in files])
    logits = logits_of(model, torch.from_numpy(decoded).permute(0, 3, 1, 2))
    labels = tuple(outcome.label for outcome in outcomes)
    met = (criterion_of(logits, labels=labels, target=target).margin(logits) < 0).tolist()
    borne = [_borne_out(*one) for one in zip(outcomes, logits, met, strict=True)]
    faces = [
        _face(photo, number, borne[number], classes, adversarial=file.name)
        for number, file in enumerate(files)
    ]
    clean = photo.crops(size=model.input_size[0], margin=loaded.card.crop_margin)
    bare, crops = _without_pictures(borne), _pairs(clean, decoded)
    return Delivered(_image(photo, faces), bare, crops, tuple(files))


def deliver_photo(
    setting: PhotoAttack,
    photo: Photo,
    found: PhotoSearch,
    *,
    index: int,
    max_pixels: int,
) -> Delivered:
    """Deliver an attacked photo; its bytes are decoded, its faces found and classified again."""
    loaded, asked = setting.loaded, setting.detect is not None
    pictures = [outcome.adversarial for outcome in found.outcomes]
    data = png(assemble(photo, list(zip(found.places, pictures, strict=True))))
    attacked = replace(photo, pixels=_reopened(data, max_pixels))
    verdicts = judge(setting, photo, attacked.pixels)
    borne = [_judged(*one) for one in zip(found.outcomes, verdicts, strict=True)]
    faces = [
        _face(
            photo,
            number,
            borne[number],
            loaded.card.classes,
            found_again=verdict.box is not None if asked else None,
            box_after=as_box(verdict.box) if asked and verdict.box is not None else None,
        )
        for number, verdict in enumerate(verdicts)
    ]
    file = File(f"adversarial-{index}.png", data, image=index)
    counted = [face.success for face in faces if face.counted]
    size, margin = loaded.classifier.input_size[0], loaded.card.crop_margin
    before, after = (one.crops(size=size, margin=margin) for one in (photo, attacked))
    return Delivered(
        _image(photo, faces, adversarial=file.name, fooled=all(counted) if counted else None),
        _without_pictures(borne),
        _pairs(before, after.permute(0, 2, 3, 1).numpy()),
        (file,),
    )


def _reopened(data: bytes, max_pixels: int) -> Pixels:
    """Read the delivered file as the service would read an upload."""
    limits = ImageLimits(max_bytes=2**31, max_pixels=max_pixels)
    stored = sanitize(data, limits)
    return decode_rgb(stored.data, stored.orientation, limits=limits)


def _borne_out(outcome: FaceOutcome, logits: Tensor, met: bool) -> FaceOutcome:
    """Return an outcome as the delivered bytes bear it out; ``logits`` ``(C,)`` are theirs."""
    fooled = outcome.success and met
    return replace(
        outcome,
        success=fooled,
        query_at_success=outcome.query_at_success if fooled else None,
        label_after=int(logits.argmax()),
        confidence_after=float(logits.softmax(0)[outcome.label]),
    )


def _judged(outcome: FaceOutcome, verdict: SeenAgain) -> FaceOutcome:
    """Return an outcome as the service judges the delivered photo, whatever the search claimed."""
    # Where only the whole service errs, in its own box of the face, all queries were needed.
    asked = outcome.query_at_success or outcome.queries or None
    claimed = replace(outcome, success=True, query_at_success=asked)
    return _borne_out(claimed, verdict.logits, verdict.met)


def _without_pictures(outcomes: Sequence[FaceOutcome]) -> tuple[FaceOutcome, ...]:
    return tuple(replace(outcome, adversarial=_NO_PICTURE) for outcome in outcomes)


def _pairs(before: Tensor, after: Pixels) -> tuple[Pixels, ...]:
    """Return faces before, uint8 ``(N, 3, S, S)``, and after ``(N, S, S, 3)``, side by side."""
    return tuple(np.stack([before.permute(0, 2, 3, 1).numpy(), after], 1))


def _face(
    photo: Photo,
    number: int,
    outcome: FaceOutcome,
    classes: Sequence[str],
    *,
    adversarial: str | None = None,
    found_again: bool | None = None,
    box_after: Box | None = None,
) -> AttackedFace:
    score = photo.located.scores[number]
    return AttackedFace(
        box=as_box(photo.boxes[number]),
        detection_score=None if score is None else round(score, 4),
        label=classes[outcome.label],
        label_before=classes[outcome.label_before],
        label_after=classes[outcome.label_after],
        confidence_before=round(outcome.confidence_before, 6),
        confidence_after=round(outcome.confidence_after, 6),
        counted=outcome.counted,
        success=outcome.success,
        queries=outcome.queries,
        gradients=outcome.gradients,
        query_at_success=outcome.query_at_success,
        changed_pixels=outcome.l0,
        l2=round(outcome.l2, 4),
        linf=outcome.linf,
        found_again=found_again,
        box_after=box_after,
        adversarial=adversarial,
    )


def _image(
    photo: Photo,
    faces: Sequence[AttackedFace],
    *,
    adversarial: str | None = None,
    fooled: bool | None = None,
) -> AttackedImage:
    width, height = photo.size
    return AttackedImage(
        image=photo.name,
        width=width,
        height=height,
        faces=tuple(faces),
        adversarial=adversarial,
        fooled=fooled,
        notes=photo.notes,
    )
