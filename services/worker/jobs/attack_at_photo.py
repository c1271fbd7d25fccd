"""Attacks the faces of a photo at its own size, and asks the whole service about the outcome."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from services.worker.attacks.base import Attack
from services.worker.attacks.criteria import Criterion
from services.worker.attacks.pipeline import PhotoClassifier, Square
from services.worker.attacks.results import AttackResult as FaceOutcome
from services.worker.attacks.run import Progress
from services.worker.faces.cloaking.verify import SAME_FACE, overlap
from services.worker.faces.crops import Pixels, crop_faces, resize, square_around
from services.worker.faces.face import Face
from services.worker.jobs.attack_photos import Photo
from services.worker.jobs.attack_region import region_in_photo
from services.worker.jobs.attack_search import Search, criterion_of, logits_of, search
from services.worker.jobs.locating import Corners
from services.worker.models.registry import LoadedModel
from shared.specs.attack import AttackSpec

# A changed face may be found a little off: it is then attacked there, too, so often at most.
ROUNDS = 3

Detect = Callable[[Pixels], list[Face]]
Patch = tuple[int, int, int, int]


@dataclass(frozen=True)
class PhotoAttack:
    """What all photos of a job are attacked with. ``detect`` is ``None`` where boxes are given."""

    spec: AttackSpec
    attack: Attack
    loaded: LoadedModel
    target: int | None
    detect: Detect | None
    check_cancel: Callable[[], None]

    def criterion(self, photo: Photo) -> Criterion:
        """Return what is wanted of each face of a clean photo."""
        logits = self.logits(photo, photo.pixels, photo.boxes)
        return criterion_of(logits, labels=photo.labels, target=self.target)

    def logits(self, photo: Photo, pixels: Pixels, boxes: Sequence[Corners]) -> Tensor:
        """Return the logits ``(N, C)`` of faces, cut from ``pixels`` as the service does it."""
        size, margin = self.loaded.classifier.input_size[0], self.loaded.card.crop_margin
        if photo.whole:
            faces = resize(pixels, size)[None]
        else:
            faces = crop_faces(pixels, list(boxes), size=size, margin=margin)
        return logits_of(self.loaded.classifier, (faces * 255).round().to(torch.uint8))


@dataclass(frozen=True)
class Verdict:
    """What the service says of a face in a delivered photo.

    ``box``: where it was found; ``None``: it was not (and is judged where it had been).
    """

    box: Corners | None
    logits: Tensor
    met: bool


def judge(setting: PhotoAttack, photo: Photo, delivered: Pixels) -> list[Verdict]:
    """Find the faces of a photo again in its attacked copy, and classify them again.

    A face that is no longer found is not misclassified by the service: that is no success.
    """
    boxes: list[Corners | None] = list(photo.boxes)
    if setting.detect is not None:
        found = [face.box for face in setting.detect(delivered)]
        boxes = [_same(box, found) for box in photo.boxes]
    places = [box or old for box, old in zip(boxes, photo.boxes, strict=True)]
    logits = setting.logits(photo, delivered, places)
    met = (setting.criterion(photo).margin(logits) < 0).tolist()
    return [
        Verdict(box, row, met=fooled and box is not None)
        for box, row, fooled in zip(boxes, logits, met, strict=True)
    ]


def search_photo(setting: PhotoAttack, photo: Photo, *, first: int, progress: Progress) -> Search:
    """Attack the faces of a photo, numbered from ``first``; each changes pixels of its own.

    Where a face is found elsewhere in the attacked photo and is not fooled there, it is attacked
    again, in both places at once.
    """
    attack, criterion = _thorough(setting.attack), setting.criterion(photo)
    margin, faces = setting.loaded.card.crop_margin, range(len(photo.boxes))
    places = [[square_around(box, margin)] for box in photo.boxes]

    def attacked(number: int) -> tuple[Search, Patch]:
        return _face(setting, attack, photo, number, places, criterion, first=first, told=progress)

    found = [attacked(number) for number in faces]
    begun, best, most = found, found, -1
    for number_of_round in range(ROUNDS):
        verdicts = judge(setting, photo, assemble(photo, [_pasted(one) for one in found]))
        fooled = sum(verdict.met for verdict in verdicts)
        if fooled > most:
            best, most = found, fooled
        again = [
            number
            for number, verdict in enumerate(verdicts)
            if not verdict.met
            and begun[number][0].batch.results[0].success
            and not begun[number][0].batch.results[0].met_before
            and _elsewhere(verdict, places[number], margin)
        ]
        if not again or number_of_round == ROUNDS - 1:
            break
        for number in again:
            places[number].append(square_around(verdicts[number].box or (0, 0, 0, 0), margin))
        found = [
            _on_top(found[number], attacked(number)) if number in again else found[number]
            for number in faces
        ]
    return _joined(begun, best, spent=found)


def assemble(photo: Photo, pictures: Sequence[tuple[tuple[int, int], Pixels]]) -> Pixels:
    """Return a copy of a photo with attacked pictures in their places ``(x, y)``."""
    whole = photo.pixels.copy()
    for (x, y), picture in pictures:
        height, width = picture.shape[:2]
        window = slice(y, y + height), slice(x, x + width)
        changed = (picture != photo.pixels[window]).any(2)
        whole[window][changed] = picture[changed]
    return whole


def _same(box: Corners, found: Sequence[Corners]) -> Corners | None:
    best = max(found, key=lambda other: overlap(box, other), default=None)
    return best if best is not None and overlap(box, best) >= SAME_FACE else None


def _thorough(attack: Attack) -> Attack:
    """Return the attack going on after its first success, for a margin that outlives a shift."""
    stops = attack.uses_gradients and any(f.name == "early_stop" for f in fields(attack))
    return replace(attack, **{"early_stop": False}) if stops else attack


def _elsewhere(verdict: Verdict, places: Sequence[Square], margin: float) -> bool:
    return verdict.box is not None and square_around(verdict.box, margin) not in places


def _face(
    setting: PhotoAttack,
    attack: Attack,
    photo: Photo,
    number: int,
    places: Sequence[Sequence[Square]],
    criterion: Criterion,
    *,
    first: int,
    told: Progress,
) -> tuple[Search, Patch]:
    """Attack one face in all its places; returns what was found, in the patch around them."""
    patch = _around(photo, places[number])
    x0, y0, x1, y1 = patch
    squares: list[Square] = [(x - x0, y - y0, side) for x, y, side in places[number]]
    model = PhotoClassifier(
        setting.loaded.classifier,
        height=y1 - y0,
        width=x1 - x0,
        square=None if photo.whole else squares[0],
        also=squares[1:],
    )
    allowed = region_in_photo(
        setting.spec, photo, number, patch=patch, squares=[some[0] for some in places]
    )
    picture = torch.from_numpy(photo.pixels[y0:y1, x0:x1].copy()).permute(2, 0, 1)
    found = search(
        attack,
        model,
        picture[None],
        criterion.take(torch.tensor([number])),
        allowed=allowed[None],
        first=first + number,
        seed=setting.spec.seed,
        progress=told,
        check_cancel=setting.check_cancel,
    )
    return found, patch


def _around(photo: Photo, squares: Sequence[Square]) -> Patch:
    """Return the part of a photo that squares cover: the classifier looks at nothing else."""
    width, height = photo.size
    if photo.whole:
        return 0, 0, width, height
    return (
        max(0, min(x for x, _, _ in squares)),
        max(0, min(y for _, y, _ in squares)),
        min(width, max(x + side for x, _, side in squares)),
        min(height, max(y + side for _, y, side in squares)),
    )


def _pasted(found: tuple[Search, Patch]) -> tuple[tuple[int, int], Pixels]:
    return found[1][:2], found[0].batch.results[0].adversarial


def _on_top(earlier: tuple[Search, Patch], later: tuple[Search, Patch]) -> tuple[Search, Patch]:
    """Return a later search with what all of them asked."""
    before, after = (found[0].batch.results[0] for found in (earlier, later))
    first = after.query_at_success
    outcome = replace(
        after,
        queries=before.queries + after.queries,
        gradients=before.gradients + after.gradients,
        zero_gradients=before.zero_gradients + after.zero_gradients,
        query_at_success=None if first is None else before.queries + first,
    )
    batch = replace(later[0].batch, results=(outcome,))
    return replace(later[0], batch=batch), later[1]


def _joined(
    begun: Sequence[tuple[Search, Patch]],
    best: Sequence[tuple[Search, Patch]],
    *,
    spent: Sequence[tuple[Search, Patch]],
) -> Search:
    """Return the faces' searches as one: with the best pictures, all queries, the clean figures."""

    def outcome(number: int) -> FaceOutcome:
        clean, kept, last = (some[number][0].batch.results[0] for some in (begun, best, spent))
        return replace(
            kept,
            label_before=clean.label_before,
            confidence_before=clean.confidence_before,
            met_before=clean.met_before,
            queries=last.queries,
            gradients=last.gradients,
            zero_gradients=last.zero_gradients,
        )

    outcomes = tuple(outcome(number) for number in range(len(begun)))
    steps = [one.one_step for one, _ in begun if one.one_step is not None]
    one_step = None
    if steps:
        one_step = replace(steps[0], results=tuple(step.results[0] for step in steps))
    return Search(
        replace(begun[0][0].batch, results=outcomes),
        one_step,
        tuple((patch[0], patch[1]) for _, patch in best),
    )
