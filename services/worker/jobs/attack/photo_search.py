"""Attacks the faces of a photo at its own size, and verifies the outcome end to end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from services.worker.attacks.base import Attack
from services.worker.attacks.criteria import Criterion
from services.worker.attacks.pipeline import PhotoClassifier, SquareArea
from services.worker.attacks.results import AttackResult as FaceOutcome
from services.worker.faces.boxes import SAME_FACE, overlap
from services.worker.faces.crops import Pixels, crop_faces, resize, square_around
from services.worker.faces.face import Face
from services.worker.jobs.attack.inputs import Photo
from services.worker.jobs.attack.region import region_in_photo
from services.worker.jobs.attack.search import (
    Search,
    criterion_of,
    joined,
    logits_of,
    search,
)
from services.worker.jobs.kit.budget import FLOAT_BYTES
from services.worker.jobs.kit.faces import Corners, require_crops
from services.worker.models.registry import LoadedModel
from services.worker.runtime.memory import require
from services.worker.stopping import CancelCheck, Progress
from shared.specs.attack import AttackSpec

# A changed face may be found a little off: it is then attacked there, too, so often at most.
ROUNDS = 3
COPIES = 4  # of a square: as floats, reduced, in levels, and its gradient

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
    check_cancel: CancelCheck

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
            require_crops(len(boxes), size=size)
            faces = crop_faces(pixels, list(boxes), size=size, margin=margin)
        return logits_of(self.loaded.classifier, (faces * 255).round().to(torch.uint8))


@dataclass(frozen=True)
class SeenAgain:
    """What the service says of a face in a delivered photo.

    ``box``: where it was found; ``None``: it was not (and is judged where it had been).
    """

    box: Corners | None
    logits: Tensor
    met: bool


def judge(setting: PhotoAttack, photo: Photo, delivered: Pixels) -> list[SeenAgain]:
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
        SeenAgain(box, row, met=fooled and box is not None)
        for box, row, fooled in zip(boxes, logits, met, strict=True)
    ]


@dataclass(frozen=True)
class PhotoSearch:
    """The faces of a photo: the best ``outcomes``, whose pictures begin at ``places`` ``(x, y)``.

    ``queries`` and ``gradients`` of an outcome are those of all its searches. ``first`` has the
    searches where the faces were found in the clean photo, which can be held against one step.
    """

    outcomes: tuple[FaceOutcome, ...]
    places: tuple[tuple[int, int], ...]
    first: Search


@dataclass(frozen=True)
class _Attacked:
    """The result of a search for one face: the changed patch of the photo, and all queries."""

    search: Search
    patch: Patch
    queries: int
    gradients: int
    zero_gradients: int
    asked_before: int = 0

    @property
    def outcome(self) -> FaceOutcome:
        return self.search.batch.results[0]

    @property
    def pasted(self) -> tuple[tuple[int, int], Pixels]:
        return self.patch[:2], self.outcome.adversarial

    def on_top_of(self, earlier: "_Attacked") -> "_Attacked":
        """Add the queries of an earlier search."""
        return replace(
            self,
            queries=self.queries + earlier.queries,
            gradients=self.gradients + earlier.gradients,
            zero_gradients=self.zero_gradients + earlier.zero_gradients,
            asked_before=earlier.queries,
        )


def search_photo(
    setting: PhotoAttack, photo: Photo, *, first: int, progress: Progress
) -> PhotoSearch:
    """Attack the faces of a photo, numbered from ``first``; each changes pixels of its own.

    Where a face is found elsewhere in the attacked photo and is not fooled there, it is attacked
    again, in both places at once. Kept is the round that fools the most faces.
    """
    attack, criterion = _thorough(setting.attack), setting.criterion(photo)
    margin, faces = setting.loaded.card.crop_margin, range(len(photo.boxes))
    places = [[square_around(box, margin)] for box in photo.boxes]

    def attacked(number: int) -> _Attacked:
        return _face(
            setting, attack, photo, number, places, criterion, first=first, progress=progress
        )

    found = [attacked(number) for number in faces]
    begun, best, most = found, found, -1
    for rounds_left in reversed(range(ROUNDS)):
        verdicts = judge(setting, photo, assemble(photo, [one.pasted for one in found]))
        fooled = sum(verdict.met for verdict in verdicts)
        if fooled > most:
            best, most = found, fooled
        moved = {
            number: square_around(verdict.box, margin)
            for number, verdict in enumerate(verdicts)
            if verdict.box is not None
            and not verdict.met
            and begun[number].outcome.success
            and not begun[number].outcome.met_before
            and square_around(verdict.box, margin) not in places[number]
        }
        if not moved or not rounds_left:
            break
        for number, square in moved.items():
            places[number].append(square)
        found = [
            attacked(number).on_top_of(found[number]) if number in moved else found[number]
            for number in faces
        ]
    outcomes = tuple(map(_told_of, begun, best, found))
    return PhotoSearch(
        outcomes,
        tuple(one.patch[:2] for one in best),
        joined([one.search.without_pictures() for one in begun]),
    )


def _told_of(begun: _Attacked, best: _Attacked, last: _Attacked) -> FaceOutcome:
    """Return the best outcome with the clean figures of the face and the queries of all rounds."""
    clean, at = begun.outcome, best.outcome.query_at_success
    return replace(
        best.outcome,
        label_before=clean.label_before,
        confidence_before=clean.confidence_before,
        met_before=clean.met_before,
        queries=last.queries,
        gradients=last.gradients,
        zero_gradients=last.zero_gradients,
        query_at_success=None if at is None else best.asked_before + at,
    )


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


def _face(
    setting: PhotoAttack,
    attack: Attack,
    photo: Photo,
    number: int,
    places: Sequence[Sequence[SquareArea]],
    criterion: Criterion,
    *,
    first: int,
    progress: Progress,
) -> _Attacked:
    """Attack one face in all its places, in the patch of the photo around them."""
    if not photo.whole:
        largest = max(side for _, _, side in places[number])
        what = f"to attack a face in a square of {largest} x {largest} pixels"
        require(COPIES * 3 * largest**2 * FLOAT_BYTES, what)
    patch = _around(photo, places[number])
    x0, y0, x1, y1 = patch
    squares: list[SquareArea] = [(x - x0, y - y0, side) for x, y, side in places[number]]
    own = criterion.take(torch.tensor([number]))
    model = PhotoClassifier(
        setting.loaded.classifier,
        height=y1 - y0,
        width=x1 - x0,
        square=None if photo.whole else squares[0],
        also=squares[1:],
        criterion=own,
    )
    allowed = region_in_photo(
        setting.spec, photo, number, patch=patch, squares=[some[0] for some in places]
    )
    picture = torch.from_numpy(photo.pixels[y0:y1, x0:x1].copy()).permute(2, 0, 1)
    found = search(
        attack,
        model,
        picture[None],
        own,
        allowed=allowed[None],
        first=first + number,
        seed=setting.spec.seed,
        progress=progress,
        check_cancel=setting.check_cancel,
    )
    outcome = found.batch.results[0]
    return _Attacked(found, patch, outcome.queries, outcome.gradients, outcome.zero_gradients)


def _around(photo: Photo, squares: Sequence[SquareArea]) -> Patch:
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
