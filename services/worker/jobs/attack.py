"""``attack``: changes faces until the classifier errs, and checks what is delivered."""

import io
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from services.worker.attacks.catalog import ATTACKS
from services.worker.attacks.criteria import Criterion, Targeted, Untargeted
from services.worker.attacks.results import AttackBatch
from services.worker.attacks.results import AttackResult as FaceOutcome
from services.worker.attacks.run import run as run_attack
from services.worker.faces.crops import Pixels
from services.worker.jobs.drawing import Panel, draw_rows
from services.worker.jobs.locating import Located, as_box, cut, locate
from services.worker.jobs.provenance import device_name, model_used, versions
from services.worker.jobs.warmth import mask_model
from services.worker.models.registry import LoadedModel
from services.worker.runtime.context import JobContext
from services.worker.training.metrics import wilson
from shared.problems import Problem
from shared.results import Timing
from shared.results.attack import AttackedFace, AttackedImage, AttackResult, SuccessRate
from shared.specs.attack import AttackSpec

SHOWN_FACES = 64
AMPLIFY = 8


@dataclass(frozen=True)
class _Photo:
    size: tuple[int, int]
    located: Located
    first: int  # number of its first face in the whole job


def run(context: JobContext, spec: AttackSpec) -> AttackResult:
    """Attack the faces of one job's images, all in one batch."""
    began = time.monotonic()
    loaded = mask_model(context.models, context.settings, context.device, model_id=spec.model)
    classes = loaded.card.classes
    true, target = _number(spec.label, classes, "label"), _number(spec.target, classes, "target")
    photos, faces = _cut_all(context, spec, loaded)
    outcomes: tuple[FaceOutcome, ...] = ()
    report = curve = None
    if len(faces):
        batch = _attack(context, spec, loaded, faces, true=true, target=target)
        outcomes = _checked(loaded, batch)
        report = _report(context, faces, outcomes, classes)
        curve = context.put_artifact("success-curve.png", _curve(batch), "image/png")
    images = _images(context, spec, photos, outcomes, classes)
    counted = [outcome for outcome in outcomes if outcome.counted]
    fooled = [outcome for outcome in counted if outcome.success]
    rate = wilson(len(fooled), len(counted))
    empty = sum(not photo.located.boxes for photo in photos)
    parameters = spec.model_dump(mode="json", exclude={"images"})
    queries = [outcome.query_at_success for outcome in fooled if outcome.query_at_success]
    drops = [outcome.confidence_before - outcome.confidence_after for outcome in counted]
    return AttackResult(
        parameters={**parameters, "model": loaded.card.id},
        models=(model_used(loaded),),
        device=device_name(loaded.device),
        versions=versions(),
        timing=Timing(total=round(time.monotonic() - began, 4)),
        main_artifact=report,
        warnings=(f"no face was found in {empty} of {len(photos)} photos",) if empty else (),
        images=images,
        success=SuccessRate(
            successes=len(fooled),
            counted=len(counted),
            rate=rate.value if counted else None,
            low=rate.low,
            high=rate.high,
        ),
        median_queries=statistics.median(queries) if queries else None,
        mean_confidence_drop=statistics.fmean(drops) if drops else None,
        report=report,
        curve=curve,
    )


def _number(name: str | None, classes: tuple[str, ...], what: str) -> int | None:
    if name is None:
        return None
    if name not in classes:
        raise Problem(
            "invalid-input",
            f"The {what} {name!r} is not a label of this model: {', '.join(classes)}.",
        )
    return classes.index(name)


def _cut_all(
    context: JobContext, spec: AttackSpec, loaded: LoadedModel
) -> tuple[list[_Photo], Tensor]:
    """Cut the faces of all photos at the model's resolution, on the 8-bit grid."""
    size, margin = loaded.classifier.input_size[0], loaded.card.crop_margin
    photos: list[_Photo] = []
    cuts: list[Tensor] = []
    for index in range(len(spec.images)):
        photo = context.load_image(index)
        located = locate(context, spec, index, photo)
        height, width = photo.shape[:2]
        photos.append(_Photo((width, height), located, sum(map(len, cuts))))
        faces = cut(spec, photo, located.boxes, size=size, margin=margin)
        cuts.append((faces * 255).round().to(torch.uint8))
    return photos, torch.cat(cuts)


def _attack(
    context: JobContext,
    spec: AttackSpec,
    loaded: LoadedModel,
    faces: Tensor,
    *,
    true: int | None,
    target: int | None,
) -> AttackBatch:
    own = _logits(loaded, faces).argmax(1)
    labels = own if true is None else torch.full_like(own, true)
    criterion: Criterion = Untargeted(labels)
    if target is not None:
        criterion = Targeted(torch.full_like(own, target), labels)
    parameters = spec.attack.model_dump(exclude={"name"})
    return run_attack(
        ATTACKS[spec.attack.name](**parameters),
        loaded.classifier,
        faces,
        criterion,
        seed=spec.seed,
        progress=context.progress,
        check_cancel=context.check,
    )


@torch.inference_mode()
def _logits(loaded: LoadedModel, faces: Tensor) -> Tensor:
    parts = [
        loaded.classifier(part.to(loaded.device).float().div(255)).cpu() for part in faces.split(64)
    ]
    return torch.cat(parts)


def _checked(loaded: LoadedModel, batch: AttackBatch) -> tuple[FaceOutcome, ...]:
    """Ask the model once more about the bytes that are delivered, decoded again."""
    decoded = [_decoded(_png(outcome.adversarial)) for outcome in batch.results]
    seen = _logits(loaded, torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2)).argmax(1)
    for outcome, label in zip(batch.results, seen.tolist(), strict=True):
        if label != outcome.label_after:
            raise RuntimeError("the delivered picture is not classified as the attacked one was")
    return batch.results


def _png(face: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(face).save(buffer, "PNG")
    return buffer.getvalue()


def _decoded(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)


def _images(
    context: JobContext,
    spec: AttackSpec,
    photos: Sequence[_Photo],
    outcomes: Sequence[FaceOutcome],
    classes: tuple[str, ...],
) -> tuple[AttackedImage, ...]:
    images = []
    for index, photo in enumerate(photos):
        faces = []
        for number, box in enumerate(photo.located.boxes):
            outcome = outcomes[photo.first + number]
            name = f"adversarial-{index}-{number}.png"
            context.put_artifact(name, _png(outcome.adversarial), "image/png")
            score = photo.located.scores[number]
            faces.append(
                AttackedFace(
                    box=as_box(box),
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
                    adversarial=name,
                )
            )
        width, height = photo.size
        images.append(
            AttackedImage(image=spec.images[index], width=width, height=height, faces=tuple(faces))
        )
    return tuple(images)


def _report(
    context: JobContext,
    faces: Tensor,
    outcomes: Sequence[FaceOutcome],
    classes: tuple[str, ...],
) -> str:
    """Draw each face before and after, and the change amplified."""
    rows = []
    for face, outcome in list(zip(faces, outcomes, strict=True))[:SHOWN_FACES]:
        before = face.permute(1, 2, 0).numpy()
        change = outcome.adversarial.astype(int) - before
        amplified = np.clip(128 + AMPLIFY * change, 0, 255).astype(np.uint8)
        label_before, label_after = classes[outcome.label_before], classes[outcome.label_after]
        after = f"{label_after.replace('_', ' ')}, true {outcome.confidence_after:.0%}"
        asked = f"{outcome.queries} queries, {outcome.gradients} gradients"
        title = "fooled" if outcome.success else "not fooled"
        rows.append(
            (
                Panel(before, label_before.replace("_", " "), f"{outcome.confidence_before:.0%}"),
                Panel(outcome.adversarial, title, after),
                Panel(amplified, f"change x {AMPLIFY}: {outcome.l0} pixels", asked),
            )
        )
    return context.put_artifact("report.png", draw_rows(rows), "image/png")


def _curve(batch: AttackBatch) -> bytes:
    """Plot the share of counted faces that were fooled against the queries used."""
    figure = Figure(figsize=(6, 4), dpi=120)
    axes = figure.add_subplot()
    total = max(1, len(batch.counted))
    most = max((outcome.queries for outcome in batch.results), default=1)
    points = [(0, 0), *batch.success_curve(), (most, batch.successes)]
    axes.step([x for x, _ in points], [y / total for _, y in points], where="post")
    axes.set(xlabel="queries", ylabel="share of faces fooled", ylim=(-0.02, 1.02))
    axes.set_title(f"{batch.attack}, {len(batch.counted)} faces")
    axes.grid(visible=True, alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()
