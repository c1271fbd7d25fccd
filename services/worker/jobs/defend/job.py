"""``defend``: applies defenses to faces and classifies them before and after each."""

import io
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from services.worker.defenses.base import Defense, derive
from services.worker.defenses.carving import SeamCarving
from services.worker.defenses.pixel_repair import PixelRepair
from services.worker.defenses.pixels import to_bytes
from services.worker.defenses.registry import build_defense
from services.worker.defenses.seam_carving import Carved, draw_seams, protect
from services.worker.defenses.smoothing import RandomizedSmoothing
from services.worker.defenses.squeezing import SqueezingDetector
from services.worker.defenses.thresholds import KnownThreshold, known_threshold
from services.worker.faces.crops import Pixels
from services.worker.jobs.kit.faces import Corners, Located, as_box, cut, locate
from services.worker.jobs.kit.mask_images import Mask, read_mask
from services.worker.jobs.kit.models import mask_model
from services.worker.jobs.kit.pictures import Panel, draw_rows
from services.worker.jobs.kit.provenance import device_name, model_used, versions
from services.worker.models.base import Classifier
from services.worker.models.registry import LoadedModel
from services.worker.runtime.context import JobContext
from shared.problems import Problem
from shared.results import Timing
from shared.results.defend import (
    AfterStep,
    CalibratedDetector,
    Certified,
    DefendedFace,
    DefendedImage,
    DefendResult,
    Labeled,
    SuspiciousPixel,
    Verdict,
)
from shared.specs.defend import DefendSpec, Step

CARVED_FROM = 2  # seams are carved from faces cut at twice the classifier's input
MASK_SIDE = 512  # in pixels, of a face's part of a mask image; as large as a face is ever cut


class _AtAnySize(nn.Module):
    """A classifier for cut faces of any size, resized to its input."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        size = self.classifier.input_size
        if images.shape[-2:] != size:
            images = functional.interpolate(
                images, size, mode="bilinear", antialias=True, align_corners=False
            )
        logits: Tensor = self.classifier(images)
        return logits


@dataclass
class _Trail:
    """What happened to the faces of one photo."""

    steps: list[list[AfterStep]]
    pixels: list[list[SuspiciousPixel]]
    panels: list[list[Panel]]
    faces: Tensor
    pictures: list[str] = field(default_factory=list)


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
    size = _cut_size(spec, loaded)
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


def _cut_size(spec: DefendSpec, loaded: LoadedModel) -> int:
    if spec.cut_size is not None:
        return spec.cut_size
    carves = any(step.name == "seam_carving" for step in spec.defenses)
    return loaded.classifier.input_size[0] * (CARVED_FROM if carves else 1)


def _image(context: JobContext, spec: DefendSpec, loaded: LoadedModel, index: int) -> DefendedImage:
    photo = context.inputs.image(index)
    located = locate(context, spec, index, photo)
    height, width = photo.shape[:2]
    size, margin = _cut_size(spec, loaded), loaded.card.crop_margin
    faces = cut(spec, photo, located.boxes, size=size, margin=margin)
    if not len(faces):
        return DefendedImage(
            image=spec.images[index],
            width=width,
            height=height,
            faces=(),
            report=None,
            notes=context.inputs.notes(index),
        )
    classifier = _AtAnySize(loaded.classifier)
    faces = _on_grid(faces).to(loaded.device)
    before = _labels(classifier, faces, loaded.card.classes)
    kept = _marked_parts(context, spec, index, photo, located.boxes, margin=margin)
    trail = _defend(context, spec, classifier, loaded, faces, kept)
    # At the size that the classifier sees and the threshold was set at, whatever is carved.
    inner = loaded.classifier.input_size[0]
    seen = (
        faces
        if size == inner
        else _on_grid(cut(spec, photo, located.boxes, size=inner, margin=margin))
    )
    detector = SqueezingDetector(loaded.classifier)
    scores = detector.score(seen.to(loaded.device), check_cancel=context.check)
    for number, face in enumerate(to_bytes(trail.faces)):
        name = f"defended-{index}-{number}.png"
        trail.pictures.append(context.artifacts.put(name, _png(face), "image/png", image=index))
        first = Panel(to_bytes(faces)[number], f"cut {size} px", _caption(before[number]))
        trail.panels[number].insert(0, first)
    report = draw_rows(trail.panels)
    return DefendedImage(
        image=spec.images[index],
        width=width,
        height=height,
        faces=_faces(located, before, trail, scores.tolist(), known_threshold(loaded.card.sha256)),
        report=context.artifacts.put(f"report-{index}.png", report, "image/png", image=index),
        notes=context.inputs.notes(index),
    )


def _defend(
    context: JobContext,
    spec: DefendSpec,
    classifier: _AtAnySize,
    loaded: LoadedModel,
    faces: Tensor,
    kept: Tensor | None,
) -> _Trail:
    count = len(faces)
    trail = _Trail(
        [[] for _ in range(count)], [[] for _ in range(count)], [[] for _ in range(count)], faces
    )
    for order, step in enumerate(spec.defenses):
        context.check()
        defense = _build(step, classifier, loaded, spec, trail.faces.shape[-1])
        earlier = trail.faces
        if isinstance(defense, PixelRepair):
            repair = defense.repair(earlier, check_cancel=context.check)
            trail.faces = repair.images
            for number, positions in enumerate(repair.positions):
                trail.pixels[number] += _pixels(positions, repair.effects[number])
        elif isinstance(defense, RandomizedSmoothing):
            seed = derive(spec.seed, order)
            _smooth(context, defense, classifier, loaded, trail, step, seed)
            continue
        elif isinstance(defense, SeamCarving):
            trail.faces = _carve(defense, earlier, kept, trail.panels)
        else:
            trail.faces = defense.apply(earlier, seed=derive(spec.seed, order))
        labels = _labels(classifier, trail.faces, loaded.card.classes)
        shown = to_bytes(trail.faces)
        for number, labeled in enumerate(labels):
            after = _after(step, labeled, earlier[number], trail.faces[number])
            trail.steps[number].append(after)
            title = step.name.replace("_", " ")
            picture = _marked(shown[number], trail.pixels[number], step.name)
            trail.panels[number].append(Panel(picture, title, _caption(labeled)))
    return trail


def _smooth(
    context: JobContext,
    defense: RandomizedSmoothing,
    classifier: _AtAnySize,
    loaded: LoadedModel,
    trail: _Trail,
    step: Step,
    seed: int,
) -> None:
    """Ask the smoothed classifier; the faces stay, and a draw of the noise is shown."""
    smoothed, classes = defense.of(classifier), loaded.card.classes
    noisy = to_bytes(defense.apply(trail.faces, seed=seed))
    for number, face in enumerate(trail.faces):
        found = smoothed.certify(
            face,
            selection=defense.selection,
            samples=defense.samples,
            seed=seed,
            index=number,
            check_cancel=context.check,
        )
        certified = Certified(
            abstains=found.label is None,
            radius=round(found.radius, 6),
            probability=round(found.probability, 6),
            alpha=defense.alpha,
            sigma=defense.sigma,
            samples=defense.samples,
        )
        labeled = _labeled([votes / defense.samples for votes in found.votes], classes)
        after = _after(step, labeled, face, face)
        trail.steps[number].append(after.model_copy(update={"certificate": certified}))
        said = "abstains" if certified.abstains else f"{labeled.label}, L2 {found.radius:.2f}"
        trail.panels[number].append(Panel(noisy[number], "smoothing, a draw", said))


def _build(
    step: Step, classifier: _AtAnySize, loaded: LoadedModel, spec: DefendSpec, size: int
) -> Defense:
    parameters = step.model_dump(exclude={"name"})
    if step.name == "seam_carving":
        height, width = loaded.classifier.input_size
        protects = parameters.pop("protect_face")
        weights = None
        if protects:
            edge = 0.0 if spec.faces == "whole" else size * _edge(loaded.card.crop_margin)
            box = (edge, edge, size - edge, size - edge)
            weights = protect(height=size, width=size, boxes=[box])
        parameters |= {"height": height, "width": width, "weights": weights}
    return build_defense(step.name, classifier=classifier, **parameters)


def _edge(margin: float) -> float:
    """Return the share of a cut face on each side that is margin."""
    return margin / (1 + 2 * margin)


def _marked_parts(
    context: JobContext,
    spec: DefendSpec,
    index: int,
    photo: Pixels,
    boxes: list[Corners],
    *,
    margin: float,
) -> Tensor | None:
    """Return what each cut face shows of its photo's mask image, float ``(N, 1, S, S)``.

    Raises the problem ``invalid-input`` when that is nothing of any face.
    """
    if spec.protect is None:
        return None
    name = spec.protect.of(index)
    mask: Mask = read_mask(context, spec, name, photo, of=spec.images[index])
    picture = np.repeat(mask[:, :, None], 3, axis=2).astype(np.uint8) * 255
    parts = cut(spec, picture, boxes, size=MASK_SIDE, margin=margin)[:, :1]
    if not bool((parts > 0).any()):
        raise Problem(
            "invalid-input",
            f"The mask image {name} marks no pixel of a face of {spec.images[index]}: there is "
            "nothing to protect.",
        )
    return parts


def _carve(
    defense: SeamCarving, faces: Tensor, kept: Tensor | None, panels: list[list[Panel]]
) -> Tensor:
    carved = [defense.carve(faces)] if kept is None else _carve_around(defense, faces, kept)
    seams = [row for part in carved for row in part.seams]
    for row, face, found in zip(panels, to_bytes(faces), seams, strict=True):
        row.append(Panel(draw_seams(face, found), "seams", f"{int((found != 0).sum())} pixels"))
    images = np.concatenate([part.images for part in carved])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).to(faces.device)


def _carve_around(defense: SeamCarving, faces: Tensor, kept: Tensor) -> list[Carved]:
    """Carve each face around its own part of the mask image; one without any is carved freely."""
    carved = []
    for face, part in zip(faces, kept, strict=True):
        shown = functional.interpolate(part[None], face.shape[-2:], mode="area")[0, 0] > 0
        height, width = shown.shape
        weights = (
            protect(height=height, width=width, mask=shown.numpy()) if bool(shown.any()) else None
        )
        own = SeamCarving(
            height=defense.height, width=defense.width, energy=defense.energy, weights=weights
        )
        carved.append(own.carve(face[None]))
    return carved


@torch.inference_mode()
def _labels(classifier: nn.Module, faces: Tensor, classes: tuple[str, ...]) -> list[Labeled]:
    rows = classifier(faces).softmax(1).cpu().tolist()
    return [_labeled(row, classes) for row in rows]


def _labeled(row: Sequence[float], classes: tuple[str, ...]) -> Labeled:
    return Labeled(
        label=classes[max(range(len(row)), key=row.__getitem__)],
        probabilities={name: round(p, 6) for name, p in zip(classes, row, strict=True)},
    )


def _after(step: Step, labeled: Labeled, earlier: Tensor, later: Tensor) -> AfterStep:
    same_size = earlier.shape == later.shape
    change = (earlier - later).abs() * 255 if same_size else None
    parameters: dict[str, Any] = step.model_dump(mode="json", exclude={"name"})
    return AfterStep(
        **labeled.model_dump(),
        defense=step.name,
        parameters=parameters,
        size=(later.shape[-2], later.shape[-1]),
        changed_pixels=None if change is None else int((change.round() > 0).any(0).sum()),
        mean_change=None if change is None else round(float(change.mean()), 4),
    )


def _pixels(positions: Tensor, effects: Tensor) -> list[SuspiciousPixel]:
    return [
        SuspiciousPixel(x=int(column), y=int(row), effect=round(float(effect), 4))
        for (row, column), effect in zip(positions.tolist(), effects.tolist(), strict=True)
    ]


def _marked(face: Pixels, pixels: list[SuspiciousPixel], step: str) -> Pixels:
    """Draw a frame around each pixel that was painted over."""
    if step != "pixel_repair" or not pixels:
        return face
    picture = face.copy()
    for pixel in pixels:
        top, left = max(0, pixel.y - 2), max(0, pixel.x - 2)
        inside = picture[pixel.y, pixel.x].copy()
        picture[top : pixel.y + 3, left : pixel.x + 3] = (230, 159, 0)
        picture[pixel.y, pixel.x] = inside
    return picture


def _faces(
    located: Located,
    before: list[Labeled],
    trail: _Trail,
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
                defended=trail.pictures[number],
            )
        )
    return tuple(found)


def _verdict(*, suspicious: bool, changed: bool, abstained: bool) -> Verdict:
    if suspicious:
        return "suspicious"
    if changed:
        return "label_changed"
    return "abstained" if abstained else "steady"


def _on_grid(faces: Tensor) -> Tensor:
    return (faces * 255).round().div(255)


def _caption(labeled: Labeled) -> str:
    return f"{labeled.label.replace('_', ' ')} {labeled.probabilities[labeled.label]:.0%}"


def _png(face: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(face)).save(buffer, "PNG")
    return buffer.getvalue()
