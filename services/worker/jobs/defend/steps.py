"""The steps of a ``defend`` job: what each makes of the faces, and how they are labeled then."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from services.worker.defenses.base import Defense, derive
from services.worker.defenses.carving import SeamCarving
from services.worker.defenses.pixel_repair import PixelRepair
from services.worker.defenses.pixels import to_bytes
from services.worker.defenses.registry import build_defense
from services.worker.defenses.seam_carving import Carved, draw_seams, protect
from services.worker.defenses.smoothing import RandomizedSmoothing
from services.worker.evaluation.setting import AnySize
from services.worker.jobs.defend.pictures import caption, mark_pixels
from services.worker.jobs.defend.protection import protected_regions
from services.worker.jobs.kit.pictures import Panel
from services.worker.models.registry import LoadedModel
from services.worker.stopping import CancelCheck
from shared.results.defend import (
    AfterStep,
    Certified,
    Labeled,
    ProtectedRegion,
    SuspiciousPixel,
)
from shared.specs.defend import DefendSpec, Step


@dataclass
class Trail:
    """What happened to the faces of one photo: ``faces`` are float ``(N, 3, S, S)`` in [0, 1]."""

    steps: list[list[AfterStep]]
    pixels: list[list[SuspiciousPixel]]
    panels: list[list[Panel]]
    faces: Tensor


def defend(
    spec: DefendSpec,
    classifier: AnySize,
    loaded: LoadedModel,
    faces: Tensor,
    kept: Tensor | None,
    check: CancelCheck,
) -> Trail:
    """Apply all steps to faces float ``(N, 3, S, S)``; seams avoid where ``kept`` is not 0."""
    count = len(faces)
    trail = Trail(
        [[] for _ in range(count)], [[] for _ in range(count)], [[] for _ in range(count)], faces
    )
    for order, step in enumerate(spec.defenses):
        check()
        protected: list[ProtectedRegion | None] = [None] * count
        defense = _build(step, classifier, loaded, spec, trail.faces.shape[-1])
        earlier = trail.faces
        if isinstance(defense, PixelRepair):
            repair = defense.repair(earlier, check_cancel=check)
            trail.faces = repair.images
            for number, positions in enumerate(repair.positions):
                trail.pixels[number] += _pixels(positions, repair.effects[number])
        elif isinstance(defense, RandomizedSmoothing):
            seed = derive(spec.seed, order)
            _smooth(defense, classifier, loaded, trail, step, seed, check)
            continue
        elif isinstance(defense, SeamCarving):
            trail.faces, protected = _carve(defense, earlier, kept, trail.panels)
        else:
            trail.faces = defense.apply(earlier, seed=derive(spec.seed, order))
        labels = label_faces(classifier, trail.faces, loaded.card.classes)
        shown = to_bytes(trail.faces)
        for number, labeled in enumerate(labels):
            after = _after(step, labeled, earlier[number], trail.faces[number])
            after = after.model_copy(update={"protected": protected[number]})
            trail.steps[number].append(after)
            title = step.name.replace("_", " ")
            picture = mark_pixels(shown[number], trail.pixels[number], step.name)
            trail.panels[number].append(Panel(picture, title, caption(labeled)))
    return trail


def _smooth(
    defense: RandomizedSmoothing,
    classifier: AnySize,
    loaded: LoadedModel,
    trail: Trail,
    step: Step,
    seed: int,
    check: CancelCheck,
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
            check_cancel=check,
        )
        certified = Certified(
            abstains=found.label is None,
            radius=round(found.radius, 6),
            probability=round(found.probability, 6),
            alpha=defense.alpha,
            sigma=defense.sigma,
            samples=defense.samples,
        )
        labeled = labeled_as([votes / defense.samples for votes in found.votes], classes)
        after = _after(step, labeled, face, face)
        trail.steps[number].append(after.model_copy(update={"certificate": certified}))
        text = "abstains" if certified.abstains else f"{labeled.label}, L2 {found.radius:.2f}"
        trail.panels[number].append(Panel(noisy[number], "smoothing, a draw", text))


def _build(
    step: Step, classifier: AnySize, loaded: LoadedModel, spec: DefendSpec, size: int
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


def _carve(
    defense: SeamCarving, faces: Tensor, kept: Tensor | None, panels: list[list[Panel]]
) -> tuple[Tensor, list[ProtectedRegion | None]]:
    if kept is None:
        pairs = [(defense.carve(faces), defense.weights)]
    else:
        pairs = _carve_around(defense, faces, kept)
    protected = [one for part, weights in pairs for one in protected_regions(part, weights)]
    carved = [part for part, _ in pairs]
    seams = [row for part in carved for row in part.seams]
    for row, face, found in zip(panels, to_bytes(faces), seams, strict=True):
        row.append(Panel(draw_seams(face, found), "seams", f"{int((found != 0).sum())} pixels"))
    images = np.concatenate([part.images for part in carved])
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).to(faces.device)
    return tensor, protected


def _carve_around(
    defense: SeamCarving, faces: Tensor, kept: Tensor
) -> list[tuple[Carved, NDArray[np.uint16] | None]]:
    """Carve each face around its own part of the mask image; one without any is carved freely."""
    carved: list[tuple[Carved, NDArray[np.uint16] | None]] = []
    for face, part in zip(faces, kept, strict=True):
        shown = functional.interpolate(part[None], face.shape[-2:], mode="area")[0, 0] > 0
        height, width = shown.shape
        weights = (
            protect(height=height, width=width, mask=shown.numpy()) if bool(shown.any()) else None
        )
        own = SeamCarving(
            height=defense.height, width=defense.width, energy=defense.energy, weights=weights
        )
        carved.append((own.carve(face[None]), weights))
    return carved


@torch.inference_mode()
def label_faces(classifier: nn.Module, faces: Tensor, classes: tuple[str, ...]) -> list[Labeled]:
    """Return what a classifier says of faces float ``(N, 3, S, S)`` in [0, 1]."""
    rows = classifier(faces).softmax(1).cpu().tolist()
    return [labeled_as(row, classes) for row in rows]


def labeled_as(row: Sequence[float], classes: tuple[str, ...]) -> Labeled:
    """Return the label of the highest of one face's probabilities, and all of them."""
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
