"""The verdict on a delivered face: the judges' words, and how probably another one matches it."""

from collections.abc import Mapping, Sequence

from services.worker.faces.alignment import INNER, Alignment
from services.worker.faces.cloaking.calibration import (
    MOST_PROBABLE,
    Estimate,
    Evidence,
    sharpness,
    shipped,
)
from services.worker.faces.cloaking.verify import Quality, Similarities
from services.worker.faces.crops import Pixels
from services.worker.jobs.kit.recognizers import held_out, is_strong
from shared.model_card import ModelCard
from shared.results.encrypt import Verdict

# From the least to the most that can be said for a photo.
ORDER: tuple[Verdict, ...] = ("unprotected", "no-face", "unverified", "weak", "protected")
LENIENT, STRICT = "0.01", "0.001"  # false-accept rates
# Faces of fewer pixels give recognizers of 112 px little to go by.
RECOGNIZABLE = 24.0
SMALLEST_VERIFIED = 40.0  # pixels of the photo a side of the crop that recognizers look at
FEWEST_STEPS = 10
WEAK_PROBABLE = 0.5


def evidence_of(
    margins: Mapping[str, float],
    *,
    surrogates: Sequence[ModelCard],
    judges: Sequence[str],
    quality: Quality,
    alignment: Alignment,
    frame: Pixels,
) -> Evidence | None:
    """Collect what the calibrated verdict takes; ``None`` where nobody held out can judge."""
    searched = [margins[card.id] for card in surrogates if card.id in margins]
    judged = [margins[name] for name in judges if name in margins]
    if not searched or not judged:
        return None
    return Evidence(
        lineages=strong_lineages(surrogates),
        surrogate_margin=min(searched),
        judge_margin=min(judged),
        ssim=quality.ssim,
        side=INNER * alignment.scale,
        sharpness=sharpness(frame),
    )


def strong_lineages(cards: Sequence[ModelCard]) -> int:
    """Count the lineages of strong recognizers: teacher and student, or shared people, are one."""
    strong = [card for card in cards if is_strong(card)]
    apart: list[ModelCard] = []
    for card in strong:
        if all(held_out(card, [other]) for other in apart):
            apart.append(card)
    return len(apart)


def judged_face(
    words: Sequence[Verdict], evidence: Evidence | None, *, found_again: bool, steps: int
) -> tuple[Verdict, Estimate | None, tuple[str, ...]]:
    """Return the verdict on a face, the estimate that it rests on, and what lowered it.

    The judges' words are the most that is said. ``protected`` also needs a match to be improbable,
    a face that is large enough to be told apart, and a search that was not cut short.
    """
    if not words or evidence is None:
        return "unverified", None, ("no recognizer was held out that could judge",)
    match = shipped().estimate(evidence)
    said = least(words)
    reasons = []
    if said != "protected":
        reasons.append("a recognizer held out from the search still matches it")
    if match.probability > MOST_PROBABLE:
        reasons.append(
            f"a strong recognizer that was not asked matches it with a probability of "
            f"{match.probability:.0%}"
        )
    if evidence.lineages == 0:
        reasons.append("no strong recognizer was searched with")
    if evidence.side < SMALLEST_VERIFIED:
        reasons.append(
            f"the face has {evidence.side:.0f} pixels; from {SMALLEST_VERIFIED:.0f} on it can be "
            "verified"
        )
    if steps < FEWEST_STEPS:
        reasons.append(f"the search took {steps} steps; it needs {FEWEST_STEPS}")
    if not found_again:
        reasons.append("the face finder no longer finds it, so it was compared where it had been")
    if said == "protected" and reasons:
        said = "weak" if match.probability <= WEAK_PROBABLE else "unprotected"
    return said, match, tuple(reasons)


def hidden_face(
    words: Sequence[Verdict],
) -> tuple[Verdict, Estimate | None, tuple[str, ...]]:
    """Return the verdict on a face that was blurred, pixelated or covered: all recognizers' words.

    No probability is said: what it is learned from are cloaks.
    """
    said = least(words) if words else "unverified"
    reasons = () if said == "protected" else ("a recognizer still matches it",)
    return said, None, reasons


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
