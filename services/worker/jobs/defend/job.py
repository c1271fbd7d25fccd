"""``defend``: applies defenses to faces and classifies them before and after each."""

import time
from collections import Counter

from services.worker.defenses.pixels import to_bytes
from services.worker.defenses.squeezing import SqueezingDetector
from services.worker.defenses.thresholds import KnownThreshold, known_threshold
from services.worker.encoding import png
from services.worker.evaluation.setting import AnySize
from services.worker.jobs.defend.inputs import cut_size, read_faces
from services.worker.jobs.defend.pictures import caption
from services.worker.jobs.defend.protection import protection_warnings
from services.worker.jobs.defend.steps import Trail, defend, label_faces
from services.worker.jobs.kit.faces import Located, as_box
from services.worker.jobs.kit.models import mask_model
from services.worker.jobs.kit.pictures import Panel, draw_rows
from services.worker.jobs.kit.provenance import device_name, model_used, versions
from services.worker.models.registry import LoadedModel
from services.worker.runtime.context import JobContext
from shared.results import Timing
from shared.results.defend import (
    CalibratedDetector,
    DefendedFace,
    DefendedImage,
    DefendResult,
    Labeled,
    Verdict,
)
from shared.specs.defend import DefendSpec


def run(context: JobContext, spec: DefendSpec) -> DefendResult:
    """Defend the faces of one job's images."""
    began = time.monotonic()
    loaded = mask_model(context, model_id=spec.model)
    images = []
    for index in range(len(spec.images)):
        images.append(_image(context, spec, loaded, index))
        context.progress(index + 1, len(spec.images), f"{index + 1} of {len(spec.images)} photos")
    verdicts = Counter[str](face.verdict for image in images for face in image.faces)
    empty = sum(not image.faces for image in images)
    parameters = spec.model_dump(mode="json", exclude={"images"})
    known = known_threshold(loaded.card.sha256)
    warnings = [f"no face was found in {empty} of {len(images)} photos"] if empty else []
    if known is None:
        warnings.append(
            f"the squeezing detector is not calibrated for {loaded.card.id}: its scores are given "
            "without a verdict"
        )
    warnings += protection_warnings(images)
    size = cut_size(spec, loaded)
    return DefendResult(
        parameters={**parameters, "model": loaded.card.id, "cut_size": size},
        models=(model_used(loaded),),
        device=device_name(loaded.device),
        versions=versions(),
        timing=Timing(total=round(time.monotonic() - began, 4)),
        main_artifact=next((image.report for image in images if image.report), None),
        warnings=tuple(warnings),
        images=tuple(images),
        verdicts=dict(verdicts),
        detector=None if known is None else _calibrated(known),
    )


def _calibrated(known: KnownThreshold) -> CalibratedDetector:
    return CalibratedDetector(
        threshold=known.threshold,
        false_positive_rate=known.target,
        alarms=known.alarms,
        images=known.images,
        data=known.data,
    )


def _image(context: JobContext, spec: DefendSpec, loaded: LoadedModel, index: int) -> DefendedImage:
    read = read_faces(context, spec, loaded, index)
    width, height = read.size
    if not len(read.cut):
        return DefendedImage(
            image=spec.images[index],
            width=width,
            height=height,
            faces=(),
            report=None,
            notes=context.inputs.notes(index),
        )
    classifier, faces = AnySize(loaded.classifier), read.cut.to(loaded.device)
    before = label_faces(classifier, faces, loaded.card.classes)
    trail = defend(spec, classifier, loaded, faces, read.kept, context.check)
    detector = SqueezingDetector(loaded.classifier)
    scores = detector.score(read.seen.to(loaded.device), check_cancel=context.check)
    pictures = []
    for number, face in enumerate(to_bytes(trail.faces)):
        name = f"defended-{index}-{number}.png"
        pictures.append(context.artifacts.put(name, png(face), "image/png", image=index))
        first = Panel(to_bytes(faces)[number], f"cut {faces.shape[-1]} px", caption(before[number]))
        trail.panels[number].insert(0, first)
    known = known_threshold(loaded.card.sha256)
    report = draw_rows(trail.panels)
    return DefendedImage(
        image=spec.images[index],
        width=width,
        height=height,
        faces=_faces(read.located, before, trail, pictures, scores.tolist(), known),
        report=context.artifacts.put(f"report-{index}.png", report, "image/png", image=index),
        notes=context.inputs.notes(index),
    )


def _faces(
    located: Located,
    before: list[Labeled],
    trail: Trail,
    pictures: list[str],
    scores: list[float],
    known: KnownThreshold | None,
) -> tuple[DefendedFace, ...]:
    found = []
    for number, first in enumerate(before):
        steps, pixels = trail.steps[number], trail.pixels[number]
        abstained = any(step.certificate and step.certificate.abstains for step in steps)
        answers = [s.label for s in steps if not (s.certificate and s.certificate.abstains)]
        changed = any(label != first.label for label in answers)
        score = located.scores[number]
        alarm = None if known is None else scores[number] > known.threshold
        found.append(
            DefendedFace(
                box=as_box(located.boxes[number]),
                detection_score=None if score is None else round(score, 4),
                before=first,
                steps=tuple(steps),
                suspicious_pixels=tuple(pixels),
                squeezing_score=round(scores[number], 4),
                squeezing_suspicious=alarm,
                verdict=_verdict(
                    suspicious=bool(pixels) or bool(alarm), changed=changed, abstained=abstained
                ),
                defended=pictures[number],
            )
        )
    return tuple(found)


def _verdict(*, suspicious: bool, changed: bool, abstained: bool) -> Verdict:
    if suspicious:
        return "suspicious"
    if changed:
        return "label_changed"
    return "abstained" if abstained else "steady"
