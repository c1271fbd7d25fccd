"""The wearers of a ``generate-mask`` job, from a data set or from one person's photos."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from services.worker.datasets.identities import middle_face
from services.worker.datasets.packs import PackedDataset
from services.worker.faces.alignment import FRAME
from services.worker.faces.detection import FaceDetector
from services.worker.jobs.kit.models import face_detector
from services.worker.masks.cnn_projector import SIDE, alpha_card, load_alpha
from services.worker.masks.projector import fit
from services.worker.masks.wearers import Wearers, aligned_wearer, gather, seen_masks
from services.worker.models.registry import ModelUnavailableError
from services.worker.runtime.context import JobContext
from shared.dataset_card import DatasetItem
from shared.model_card import ModelCard
from shared.problems import Problem
from shared.specs.generate_mask import GenerateMaskSpec

HELD_OUT = 0.25  # of the people, where the data set has no test split
ME = "me"


@dataclass(frozen=True)
class WearerSides:
    """Wearers to train on, and others to judge by. One person's photos are split instead.

    ``unmasked`` counts people left out because they wear a mask on no photo; ``projector`` is the
    network that told.
    """

    training: Wearers
    held_out: Wearers | None
    missed: int
    unmasked: int = 0
    projector: ModelCard | None = None


def read_wearers(context: JobContext, spec: GenerateMaskSpec, folder: Path) -> WearerSides:
    """Align all photos, on the disk: memory does not grow with the number of people.

    Raises ``invalid-input`` when nobody's face is found, or too few people's, or nobody's mask
    where designs are to replace those that people wear.
    """
    detector = face_detector(context.models, context.device)
    if spec.dataset is None:
        return _split(*_one_person(context, spec, detector))
    pack = PackedDataset(context.inputs.dataset(spec.dataset))
    if pack.card.layout == "boxes":
        raise Problem("invalid-input", "The data set has boxes; this job needs a folder a person.")
    items = _chosen(pack, spec)
    frames = open_memmap(
        folder / "frames.npy", mode="w+", dtype=np.uint8, shape=(len(items), FRAME, FRAME, 3)
    )
    points: list[NDArray[np.float64]] = []
    kept: list[DatasetItem] = []
    for number, item in enumerate(items):
        photo = pack.read(item)
        face = middle_face(photo, detector.detect)
        if face is not None:
            frames[len(kept)], place = aligned_wearer(photo, face)
            points.append(place)
            kept.append(item)
        if number % 8 == 0:
            message = f"aligning faces: {number + 1} of {len(items)} photos"
            context.progress(0, 1, message)
    if not kept:
        raise Problem("invalid-input", "No face was found in any photo of the data set.")
    names = tuple(sorted({str(item.label) for item in kept}))
    number_of = {name: index for index, name in enumerate(names)}
    people = torch.tensor([number_of[str(item.label)] for item in kept])
    everyone = Wearers(frames[: len(kept)], fit(np.stack(points)), people, names)
    if spec.projector == "cnn":
        into = open_memmap(
            folder / "alphas.npy", mode="w+", dtype=np.uint8, shape=(len(kept), SIDE, SIDE)
        )
        everyone = _masked(everyone, into)
    tests = {str(item.label) for item in kept if item.split == "test"}
    sides = _by_person(everyone, tests, spec.seed, missed=len(items) - len(kept))
    return replace(sides, unmasked=len(names) - len(everyone.names), projector=_card(spec))


def _chosen(pack: PackedDataset, spec: GenerateMaskSpec) -> list[DatasetItem]:
    items = [item for item in pack.items("all") if item.label is not None]
    names = sorted({str(item.label) for item in items})
    if spec.people is not None and spec.people < len(names):
        drawn = np.random.default_rng(spec.seed).choice(len(names), spec.people, replace=False)
        wanted = {names[index] for index in drawn}
        items = [item for item in items if item.label in wanted]
    return items


def _by_person(everyone: Wearers, tests: set[str], seed: int, *, missed: int) -> WearerSides:
    names = everyone.names
    if len(names) < 2:
        raise Problem(
            "invalid-input",
            "The data set shows one person only: send that person's photos as `images`.",
        )
    if not tests or len(tests) == len(names):
        count = max(1, round(HELD_OUT * len(names)))
        drawn = np.random.default_rng(seed).permutation(len(names))[:count]
        tests = {names[index] for index in drawn}
    apart = torch.tensor([name in tests for name in names])[everyone.people]
    return WearerSides(_people(everyone, ~apart), _people(everyone, apart), missed)


def _people(everyone: Wearers, chosen: torch.Tensor) -> Wearers:
    """Return some photos, their people numbered anew."""
    return everyone.of(torch.nonzero(chosen)[:, 0].tolist()).renumbered()


def _masked(everyone: Wearers, into: NDArray[np.uint8] | None = None) -> Wearers:
    """Look for the masks that people wear, and leave out those who wear none on any photo."""
    try:
        network = load_alpha()
    except ModelUnavailableError as error:
        raise Problem("model-unavailable", f"{error}.") from error
    seen = seen_masks(everyone, network, into)
    wear_one = torch.zeros(len(seen.names), dtype=torch.bool)
    wear_one[seen.people[torch.from_numpy(seen.wearable)]] = True
    if not wear_one.any():
        raise Problem(
            "invalid-input",
            "The projector `cnn` sees a mask on no photo: send photos with a mask on, or use "
            "`landmarks`.",
        )
    if bool(wear_one.all()):
        return seen
    return _people(seen, wear_one[seen.people])


def _card(spec: GenerateMaskSpec) -> ModelCard | None:
    return alpha_card() if spec.projector == "cnn" else None


def one_person(context: JobContext, spec: GenerateMaskSpec) -> Wearers:
    """Align one person's photos; raises ``invalid-input`` when no face is found in any."""
    detector = face_detector(context.models, context.device)
    return _one_person(context, spec, detector)[0]


def _one_person(
    context: JobContext, spec: GenerateMaskSpec, detector: FaceDetector
) -> tuple[Wearers, int, ModelCard | None]:
    found = []
    for index in range(len(spec.images)):
        photo = context.inputs.image(index)
        faces = detector.detect(photo)
        if faces:
            found.append((ME, *aligned_wearer(photo, faces[0])))
        context.progress(0, 1, f"aligning faces: {index + 1} of {len(spec.images)} photos")
    if not found:
        raise Problem("invalid-input", "No face was found in any of the photos.")
    wearer = gather(found)
    if spec.projector == "cnn":
        wearer = _masked(wearer)
    return wearer, len(spec.images) - len(found), _card(spec)


def _split(wearer: Wearers, missed: int, projector: ModelCard | None) -> WearerSides:
    """Keep every third photo that a design can be worn on for the figures."""
    worn = np.flatnonzero(wearer.wearable).tolist()
    if len(worn) < 3:
        return WearerSides(wearer, None, missed, projector=projector)
    held = worn[2::3]
    rest = [index for index in range(len(wearer)) if index not in held]
    return WearerSides(wearer.of(rest), wearer.of(held), missed, projector=projector)
