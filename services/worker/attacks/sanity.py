"""Gates against broken attacks and unfair comparisons, after Carlini et al. (2019).

Each gate takes results and returns warnings; no warning means that what could be checked holds.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from services.worker.attacks.results import AttackBatch

Gate = Literal[
    "pgd-weaker-than-fgsm",
    "success-not-rising",
    "large-eps-not-complete",
    "zero-gradients",
    "steps-short-of-eps",
    "black-box-beats-white-box",
    "different-images",
    "different-models",
]

# Half of the range: any image can be turned into gray, so nothing should withstand it.
OVERWHELMING_EPS = 128.0
MASKED_SHARE = 0.1
ONE_STEP = {"fgsm"}
ITERATED = {"bim", "mifgsm", "pgd", "apgd"}
# Attacks that look for the smallest L2 change: from labels alone, and by gradients.
NEAREST_BLACK_BOX = {"boundary", "hopskipjump"}
NEAREST_WHITE_BOX = {"cw", "lbfgs"}
CLEARLY_SMALLER = 0.95


@dataclass(frozen=True)
class SanityWarning:
    """A gate that was not passed, and a sentence that says what was seen."""

    gate: Gate
    message: str


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a batch of results and the hash of the model's weights.

    ``everywhere``: whether the attack might change every pixel, not only those of a region.
    """

    batch: AttackBatch
    model_sha256: str
    everywhere: bool = True

    @property
    def eps(self) -> float | None:
        """The bound in units of 1/255, for attacks that have one."""
        value: Any = self.batch.parameters.get("eps")
        return None if value is None else float(value)

    @property
    def norm(self) -> str:
        """The norm of ``eps``."""
        return str(self.batch.parameters.get("norm", "linf"))

    @property
    def label(self) -> str:
        """A name for messages."""
        return self.batch.attack if self.eps is None else f"{self.batch.attack} at {self.eps:g}/255"


def check_alone(side: Side) -> list[SanityWarning]:
    """Check what one run shows by itself."""
    batch, found = side.batch, []
    if _overwhelming(side):
        missing = len(batch.counted) - batch.successes
        if missing:
            found.append(
                SanityWarning(
                    "large-eps-not-complete",
                    f"{side.label} leaves {missing} of {len(batch.counted)} images standing, "
                    "though it may turn any image into gray: the attack is broken or blocked.",
                )
            )
    asked = sum(result.gradients for result in batch.counted)
    zero = sum(result.zero_gradients for result in batch.counted)
    if asked and zero / asked > MASKED_SHARE:
        found.append(
            SanityWarning(
                "zero-gradients",
                f"{zero} of {asked} gradients of {side.label} were zero or not finite: the "
                "model masks its gradients, and gradient attacks say little about it.",
            )
        )
    reach = _reach(side)
    if reach is not None and side.eps is not None and reach < side.eps:
        found.append(
            SanityWarning(
                "steps-short-of-eps",
                f"the steps of {side.label} reach {reach:g}/255 together: less than eps.",
            )
        )
    return found


def check_together(sides: Sequence[Side]) -> list[SanityWarning]:
    """Check runs on the same images and model against each other.

    Runs on other images or models are named and not compared.
    """
    found = [warning for side in sides for warning in check_alone(side)]
    if len(sides) < 2:
        return found
    comparable = [side for side in sides if _same_images(side, sides[0])]
    if len(comparable) < len(sides):
        found.append(
            SanityWarning(
                "different-images", "the runs attacked different images and cannot be compared."
            )
        )
    if len({side.model_sha256 for side in comparable}) > 1:
        found.append(
            SanityWarning(
                "different-models", "the runs attacked different weights and cannot be compared."
            )
        )
        comparable = [side for side in comparable if side.model_sha256 == sides[0].model_sha256]
    for one in comparable:
        for other in comparable:
            found += _compare(one, other)
    return found


def _compare(one: Side, other: Side) -> list[SanityWarning]:
    """Return warnings when ``one``, which should be the weaker run, did better than ``other``."""
    if one.batch.targeted != other.batch.targeted:
        return []
    if one.batch.attack in NEAREST_BLACK_BOX and other.batch.attack in NEAREST_WHITE_BOX:
        return _compare_norms(one, other)
    if one.batch.successes <= other.batch.successes:
        return []
    seen = f"{one.label} fooled {one.batch.successes}, {other.label} {other.batch.successes}"
    same_ball = one.norm == other.norm and one.eps == other.eps and one.eps is not None
    found = []
    if same_ball and one.batch.attack in ONE_STEP and other.batch.attack in ITERATED:
        found.append(
            SanityWarning("pgd-weaker-than-fgsm", f"{seen}: iterating must not weaken an attack.")
        )
    # One step against many queries is no handicap of gradients, but of one step.
    if same_ball and not one.batch.uses_gradients and other.batch.attack in ITERATED:
        found.append(
            SanityWarning("black-box-beats-white-box", f"{seen}: gradients must not be a handicap.")
        )
    grown = _only_grown(one, other)
    if grown is not None:
        found.append(SanityWarning("success-not-rising", f"{seen}, though {grown} was raised."))
    return found


def _compare_norms(black: Side, white: Side) -> list[SanityWarning]:
    """Return a warning when labels alone led to smaller changes than gradients did."""
    fooled = {result.index: result.l2 for result in white.batch.counted if result.success}
    pairs = [
        (result.l2, fooled[result.index])
        for result in black.batch.counted
        if result.success and result.index in fooled
    ]
    if not pairs:
        return []
    least, most = (statistics.median(norms) for norms in zip(*pairs, strict=True))
    if least >= CLEARLY_SMALLER * most:
        return []
    said = (
        f"{black.label} changed images by an L2 of {least:.0f}/255 in the median, {white.label} "
        f"the same images by {most:.0f}/255: gradients must not be a handicap."
    )
    return [SanityWarning("black-box-beats-white-box", said)]


def _overwhelming(side: Side) -> bool:
    """Whether an image may be turned into gray, which leads to some other label."""
    whole = side.everywhere and not side.batch.targeted
    return whole and side.norm == "linf" and (side.eps or 0) >= OVERWHELMING_EPS


def _only_grown(small: Side, large: Side) -> str | None:
    """Name the one effort parameter in which ``large`` exceeds ``small``, all else alike."""
    if small.batch.attack != large.batch.attack:
        return None
    before, after = small.batch.parameters, large.batch.parameters
    changed = [name for name in before if before[name] != after.get(name)]
    if len(changed) != 1:
        return None
    efforts = ("eps", "steps", "restarts", "queries", "pixels", "population", "generations")
    name = changed[0]
    return name if name in efforts and after[name] > before[name] else None


def _reach(side: Side) -> float | None:
    """Return how far the steps of an iterated attack go together, in units of 1/255."""
    parameters = side.batch.parameters
    size, steps = parameters.get("step_size"), parameters.get("steps")
    return None if size is None or steps is None else float(size) * int(steps)


def _same_images(one: Side, other: Side) -> bool:
    return [result.index for result in one.batch.results] == [
        result.index for result in other.batch.results
    ]
