"""What recognizers make of a delivered photo, and the verdict on it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.worker.faces.alignment import MARGIN, Alignment, cut_frame
from services.worker.faces.cloaking.apply import Box, region_of
from services.worker.faces.cloaking.calibration import Estimate
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
from services.worker.jobs.encrypt.verdict import (
    LENIENT,
    STRICT,
    evidence_of,
    hidden_face,
    judged_face,
    verdict_of,
)
from services.worker.jobs.kit.recognizers import LoadedRecognizer, embeddings_of, held_out
from services.worker.stopping import CancelCheck
from shared.results.encrypt import Identified, Similarity, Verdict

SCALE = 24.0  # of similarities in a softmax: the recognizers that ship learned with it


Detect = Callable[[Pixels], list[Face]]


@dataclass(frozen=True)
class Verified:
    """One face as it was delivered."""

    verdict: Verdict
    match: Estimate | None
    lowered_by: tuple[str, ...]
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
    steps: Sequence[int] | None,
    others: Tensor | None,
    targets: tuple[Tensor, ...] | None,
    people: Mapping[str, Tensor],
    detect: Detect,
    check: CancelCheck,
) -> list[Verified]:
    """Find the faces again in the delivered pixels and ask every recognizer.

    ``steps`` are those of each face's search; ``None``: the faces were hidden without one, so that
    every recognizer is held out.
    """
    found = find_again(delivered, boxes, detect)
    check()
    seen = see(clean, delivered, alignments, found)
    cards = [one.card for one in surrogates]
    rows: list[list[Similarity]] = [[] for _ in boxes]
    words: list[list[Verdict]] = [[] for _ in boxes]
    margins: list[dict[str, float]] = [{} for _ in boxes]
    for place, loaded in enumerate((*surrogates, *judges)):
        is_judge = place >= len(surrogates)
        compared = compare(seen, loaded.recognizer)
        known = None if others is None else embeddings_of(loaded, others)
        named = {name: embeddings_of(loaded, frames) for name, frames in people.items()}
        target = targets[place] if targets is not None and place < len(targets) else None
        for row, (face, similar) in enumerate(zip(seen, compared, strict=True)):
            one = _similarity(loaded, face, similar, known, target, is_judge=is_judge)
            rows[row].append(one.model_copy(update=_named(loaded, face, named)))
            if steps is None or (is_judge and held_out(loaded.card, cards)):
                words[row].append(verdict_of(similar, loaded.thresholds))
            if LENIENT in loaded.thresholds:
                margins[row][loaded.card.id] = loaded.thresholds[LENIENT] - similar.worst
        check()
    height, width = clean.shape[:2]
    trusted = [one.card.id for one in judges if held_out(one.card, cards)]
    verified = []
    for number, alignment in enumerate(alignments):
        shown = quality(clean, delivered, _place(alignment, height, width))
        again = seen[number].found_again
        if steps is None:
            judged = hidden_face(words[number])
        else:
            evidence = evidence_of(
                margins[number],
                surrogates=cards,
                judges=trusted,
                quality=shown,
                alignment=alignment,
                frame=cut_frame(clean, alignment),
            )
            judged = judged_face(words[number], evidence, found_again=again, steps=steps[number])
        verified.append(Verified(*judged, again, tuple(rows[number]), shown))
    return verified


def _place(alignment: Alignment, height: int, width: int) -> Box:
    return region_of(alignment, height, width, margin=MARGIN)


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
