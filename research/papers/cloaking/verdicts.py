"""What the calibrated verdict said of people that it was not learned from, and what was found."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from research.papers.cloaking.figures import JUDGE, STRONG, CloakRow, Judging
from research.papers.cloaking.portraits import Portrait
from research.papers.markdown import table
from services.worker.evaluation.metrics import wilson
from services.worker.faces.alignment import INNER
from services.worker.faces.cloaking.calibration import (
    MOST_PROBABLE,
    Evidence,
    sharpness,
    shipped,
)

LARGE = 80.0  # pixels of a face from which most are to be called protected
RANGES = ((0.0, MOST_PROBABLE), (MOST_PROBABLE, 0.2), (0.2, 0.5), (0.5, 1.0))
Lenient = dict[str, float]


@dataclass(frozen=True)
class Said:
    """Of one face: which recognizer was left out, the probability said, and whether it matched."""

    preset: str
    searched: tuple[str, ...]
    unseen: str
    probability: float
    words: bool  # whether the judge alone would say protected
    matched: bool
    side: float

    @property
    def protected(self) -> bool:
        return self.words and self.probability <= MOST_PROBABLE


def verdicts_of(
    line: CloakRow, probes: Sequence[Portrait], judges: Sequence[Judging], lenient: Lenient
) -> list[Said]:
    """Return what is said of each face of a line, for each strong recognizer left out of it.

    ``lenient`` has each recognizer's threshold of one false accept in 100, as its card states it.
    Where all strong ones were searched with, the weak one is the one left out, and there is no
    judge: its margin is then a usual one.
    """
    frames = line.changed.frames
    margins: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = {}
    galleries: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = {}
    for one in judges:
        name = one.recognizer.identifier
        if name not in (*STRONG, JUDGE):
            continue
        embedded = np.stack([one.embed(frames[:, copy]) for copy in range(frames.shape[1])], 1)
        similar = (embedded[:, 1:] * embedded[:, :1]).sum(2)
        margins[name] = lenient[name] - similar
        own = (embedded[:, 1] * one.gallery[: len(frames)]).sum(1)
        galleries[name] = lenient[name] - own
    unseen = [name for name in STRONG if name not in line.searched] or [JUDGE]
    said = []
    for left_out in unseen:
        judge = JUDGE if left_out != JUDGE else None
        for place, portrait in enumerate(probes[: len(frames)]):
            judged = None if judge is None else float(margins[judge][place].min())
            evidence = Evidence(
                lineages=len(line.searched),
                surrogate_margin=float(min(margins[s][place].min() for s in line.searched)),
                judge_margin=_USUAL if judged is None else judged,
                ssim=float(line.changed.ssim[place]),
                side=INNER * portrait.alignment.scale,
                sharpness=sharpness(frames[place, 0]),
            )
            matched = float(galleries[left_out][place]) < 0
            said.append(
                Said(
                    line.name,
                    line.searched,
                    left_out,
                    shipped().estimate(evidence).probability,
                    judged is None or judged > 0,
                    matched,
                    evidence.side,
                )
            )
    return said


_USUAL = -0.3  # a judge's margin among the rows that the regression was learned from


def reliability(said: Sequence[Said]) -> str:
    """Write what was said against what was found, by the recognizer left out."""
    if not said:
        return "Not measured in this run.\n"
    text = (
        "The probability that a strong recognizer which was neither searched with nor asked "
        "matches a face with another, clean photo of the person, at one false accept in 100, "
        f"against what was found. `{JUDGE}` is the judge; learned on people of "
        "`faces/train`.\n\n"
    )
    rows = []
    for name in dict.fromkeys(one.unseen for one in said):
        for low, high in RANGES:
            chosen = [
                one
                for one in said
                if one.unseen == name
                and (low < one.probability <= high or (low == 0 and one.probability == 0))
            ]
            if not chosen:
                continue
            found = wilson(sum(one.matched for one in chosen), len(chosen))
            mean = sum(one.probability for one in chosen) / len(chosen)
            rows.append(
                (
                    name,
                    f"{low:.0%} to {high:.0%}",
                    str(len(chosen)),
                    f"{mean:.1%}",
                    f"{found.value:.1%} [{100 * found.low:.1f}, {100 * found.high:.1f}]",
                )
            )
    text += table(("left out", "said", "faces", "mean said", "matched"), rows)
    return (
        text
        + "\n"
        + table(
            ("preset", "searched with", "left out", "called protected", "of these matched"),
            _protected(said),
        )
    )


def _protected(said: Sequence[Said]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for key in dict.fromkeys((one.preset, one.searched, one.unseen) for one in said):
        group = [one for one in said if (one.preset, one.searched, one.unseen) == key]
        large = [one for one in group if one.side >= LARGE]
        chosen = [one for one in large if one.protected]
        matched = (
            f"{sum(one.matched for one in chosen)} of {len(chosen)}" if chosen else "none called so"
        )
        share = f"{len(chosen)} of {len(large)} from {LARGE:.0f} px" if large else "none so large"
        rows.append((key[0], " + ".join(key[1]), key[2], share, matched))
    return rows
