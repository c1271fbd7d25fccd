"""What recognizers make of a delivered photo, and the verdict on it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.worker.faces.alignment import MARGIN, Alignment
from services.worker.faces.cloaking.apply import region_of
from services.worker.faces.cloaking.verify import (
    Quality,
    Seen,
    Similarities,
    compare,
    find_again,
    quality,
    see,
)
from services.worker.faces.crops import Pixels
from services.worker.faces.face import Corners, Face
from services.worker.jobs.kit.recognizers import LoadedRecognizer, embeddings_of, held_out
from services.worker.stopping import CancelCheck
from shared.results.encrypt import Identified, Similarity, Verdict

# From the least to the most that can be said for a photo.
ORDER: tuple[Verdict, ...] = ("unprotected", "no-face", "unverified", "weak", "protected")
LENIENT, STRICT = "0.01", "0.001"  # false-accept rates
# Faces of fewer pixels give recognizers of 112 px little to go by.
RECOGNIZABLE = 24.0
SCALE = 24.0  # of similarities in a softmax: the recognizers that ship learned with it


Detect = Callable[[Pixels], list[Face]]


@dataclass(frozen=True)
class Verified:
    """One face as it was delivered."""

    verdict: Verdict
    found_again: bool
    similarities: tuple[Similarity, ...]
    quality: Quality


def verify_photo(
    *,
    clean: Pixels,
    delivered: Pixels,
    boxes: Sequence[Corners],
    alignments: Sequence[Alignment],
    surrogates: Sequence[LoadedRecognizer],
    judges: Sequence[LoadedRecognizer],
    others: Tensor | None,
    targets: tuple[Tensor, ...] | None,
    people: Mapping[str, Tensor],
    detect: Detect,
    check: CancelCheck,
) -> list[Verified]:
    """Find the faces again in the delivered pixels and ask every recognizer."""
    found = find_again(delivered, boxes, detect)
    check()
    seen = see(clean, delivered, alignments, found)
    cards = [one.card for one in surrogates]
    rows: list[list[Similarity]] = [[] for _ in boxes]
    words: list[list[Verdict]] = [[] for _ in boxes]
    for place, loaded in enumerate((*surrogates, *judges)):
        is_judge = place >= len(surrogates)
        compared = compare(seen, loaded.recognizer)
        known = None if others is None else embeddings_of(loaded, others)
        named = {name: embeddings_of(loaded, frames) for name, frames in people.items()}
        target = targets[place] if targets is not None and place < len(targets) else None
        for row, (face, similar) in enumerate(zip(seen, compared, strict=True)):
            one = _similarity(loaded, face, similar, known, target, is_judge=is_judge)
            rows[row].append(one.model_copy(update=_named(loaded, face, named)))
            if is_judge and held_out(loaded.card, cards):
                words[row].append(verdict_of(similar, loaded.thresholds))
        check()
    height, width = clean.shape[:2]
    return [
        Verified(
            least(words[number]) if words[number] else "unverified",
            seen[number].found_again,
            tuple(rows[number]),
            quality(clean, delivered, region_of(alignment, height, width, margin=MARGIN)),
        )
        for number, alignment in enumerate(alignments)
    ]


def verdict_of(similar: Similarities, thresholds: dict[str, float]) -> Verdict:
    """Return a judge's verdict on one face.

    ``protected``: even at the threshold of one false accept in a hundred the delivered face is not
    taken for the clean one, nor after JPEG, at half size or blurred. ``weak``: not taken for it as
    delivered, at the threshold of one in a thousand. Else ``unprotected``.
    """
    if LENIENT not in thresholds or STRICT not in thresholds:
        return "unverified"
    if similar.worst < thresholds[LENIENT]:
        return "protected"
    return "weak" if similar.after < thresholds[STRICT] else "unprotected"


def least(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict that says least for the photo; of none, that it shows no face."""
    return min(verdicts, key=ORDER.index, default="no-face")


def is_missable(smallest: float | None) -> bool:
    """Whether faces that recognizers could know may be smaller than what was searched, in pixels.

    ``None``: no face was searched, since the request names them.
    """
    return smallest is not None and smallest > RECOGNIZABLE


def with_missable(verdict: Verdict, smallest: float | None) -> Verdict:
    """Return a photo's verdict, which cannot be `protected` where faces may have been missed."""
    return "weak" if verdict == "protected" and is_missable(smallest) else verdict


def job_verdict(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict of a job on several photos: the least of theirs."""
    return least(verdicts)


def identify(similar: Mapping[str, float], threshold: float | None) -> Identified:
    """Return whom a face is taken for: somebody, or nobody whose similarity is the threshold.

    ``similar`` has the face's similarity to the nearest photo of each person. Without a threshold
    it is one of them.
    """
    names: list[str | None] = list(similar)
    logits = [SCALE * value for value in similar.values()]
    if threshold is not None:
        names.append(None)
        logits.append(SCALE * threshold)
    shares = torch.tensor(logits, dtype=torch.float64).softmax(0)
    best = int(shares.argmax())
    return Identified(name=names[best], probability=round(float(shares[best]), 4))


def _named(
    loaded: LoadedRecognizer, face: Seen, people: Mapping[str, Tensor]
) -> dict[str, Identified]:
    """Return whom a recognizer takes the clean and the delivered face for."""
    if not people:
        return {}
    embeddings = embeddings_of(loaded, face.frames[:2])
    threshold = loaded.thresholds.get(STRICT)
    return {
        field: identify(
            {name: float((known @ embeddings[row]).amax()) for name, known in people.items()},
            threshold,
        )
        for row, field in enumerate(("named_before", "named_after"))
    }


def _similarity(
    loaded: LoadedRecognizer,
    face: Seen,
    similar: Similarities,
    others: Tensor | None,
    target: Tensor | None,
    *,
    is_judge: bool,
) -> Similarity:
    with torch.inference_mode():
        embeddings = embeddings_of(loaded, face.frames[:2]).cpu()
        known = None if others is None else (embeddings @ others.cpu().T).amax(1).tolist()
        towards = None if target is None else (embeddings @ target.cpu()).tolist()
    return Similarity(
        recognizer=loaded.card.id,
        role="judge" if is_judge else "surrogate",
        before=round(similar.before, 4),
        after=round(similar.after, 4),
        after_jpeg=round(similar.jpeg, 4),
        after_half=round(similar.half, 4),
        after_blur=round(similar.blur, 4),
        others_before=None if known is None else round(known[0], 4),
        others_after=None if known is None else round(known[1], 4),
        target_before=None if towards is None else round(towards[0], 4),
        target_after=None if towards is None else round(towards[1], 4),
    )
