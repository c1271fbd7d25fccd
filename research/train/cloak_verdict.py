"""Learns the verdict of ``encrypt``: ``python -m research.train.cloak_verdict``.

People of ``faces/train`` are cloaked with some recognizers, the others stay out. Of each delivered
face it is written down what the service would know, and whether a recognizer that was neither
searched with nor asked matches it with another, clean photo of the person (``matched_itself``: with
the photo that it was made of, which is harder to part from and seldom what others hold).
Rows hold figures alone, no photo and no name; a run that is stopped goes on.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from research.papers.cloaking.portraits import Changed, Portrait, cloaked, read_portrait
from services.worker.datasets.identities import SUFFIXES
from services.worker.evaluation.metrics import wilson
from services.worker.faces.alignment import INNER
from services.worker.faces.cloaking.calibration import (
    FILE,
    MOST_PROBABLE,
    Calibration,
    Evidence,
    fit,
    sharpness,
    write,
)
from services.worker.faces.cloaking.config import PRESETS
from services.worker.faces.detection import FaceDetector
from services.worker.models.recognizers import Recognizer, recognizer_of
from services.worker.models.registry import find_models
from services.worker.training.embedding import embed
from shared.model_card import ModelCard

DLIB, MS1M, WEAK = "dlib-resnet-v1", "mobilefacenet_ms1m", "face-residual-112"
SEARCHED = ((DLIB,), (MS1M,), (DLIB, MS1M))
LEVELS = ("low", "medium", "high")  # dealt to the people in turn
ROWS = Path("research/rows/cloak-verdict.json")
SEED = 23
AT_ONCE = 8
WEAK_LEARNED = 4  # photos of each person that it learned from, at least


@dataclass(frozen=True)
class Asked:
    """A recognizer with the threshold of one false accept in 100."""

    recognizer: Recognizer
    threshold: float

    def margins(self, frames: NDArray[np.uint8], clean: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return threshold less similarity to clean faces of frames ``(N, K, 160, 160, 3)``."""
        count, copies = frames.shape[:2]
        seen = embed(self.recognizer, _images(frames.reshape(-1, *frames.shape[2:])))
        known = embed(self.recognizer, _images(clean))
        similar = (seen.view(count, copies, -1) * known[:, None]).sum(2)
        return np.asarray(self.threshold - similar.numpy())


def _images(frames: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))


def rows_of(
    searched: Sequence[str],
    part: Sequence[tuple[Portrait, Portrait]],
    changed: Changed,
    asked: dict[str, Asked],
) -> Iterator[dict[str, object]]:
    """Return what is known of each face and whether each recognizer left out matches it."""
    clean, copies = changed.frames[:, 0], changed.frames[:, 1:]
    gallery = np.stack([other.frame for _, other in part])
    margins = {name: one.margins(copies, clean) for name, one in asked.items()}
    further = {name: one.margins(copies[:, :1], gallery)[:, 0] for name, one in asked.items()}
    for unseen in (DLIB, MS1M, WEAK):
        if unseen in searched:
            continue
        judges: list[str | None] = [
            name for name in asked if name not in searched and name != unseen
        ]
        for judge in judges or [None]:
            for place, (portrait, _) in enumerate(part):
                evidence = Evidence(
                    lineages=len(searched),
                    surrogate_margin=float(min(margins[one][place].min() for one in searched)),
                    judge_margin=0.0 if judge is None else float(margins[judge][place].min()),
                    ssim=float(changed.ssim[place]),
                    side=INNER * portrait.alignment.scale,
                    sharpness=sharpness(clean[place]),
                    weak_unseen=unseen == WEAK,
                )
                known = {key: _rounded(value) for key, value in asdict(evidence).items()}
                yield {
                    **known,
                    "judge_margin": None if judge is None else known["judge_margin"],
                    "searched": list(searched),
                    "judge": judge,
                    "unseen": unseen,
                    "matched": bool(further[unseen][place] < 0),
                    "matched_itself": bool(margins[unseen][place][0] < 0),
                }


def _rounded(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value


def learned(rows: Sequence[dict[str, object]]) -> tuple[list[Evidence], list[bool]]:
    """Return the rows as evidence; a judge that was missing is a usual one."""
    fields = Evidence.__dataclass_fields__
    known = [row for row in rows if row["judge_margin"] is not None]
    usual = float(np.mean([float(str(row["judge_margin"])) for row in known])) if known else 0.0
    found = []
    for row in rows:
        values = {name: row[name] for name in fields}
        if values["judge_margin"] is None:
            values["judge_margin"] = usual
        found.append(Evidence(**values))  # type: ignore[arg-type]
    return found, [bool(row["matched"]) for row in rows]


def reliability(rows: Sequence[dict[str, object]], ridge: float) -> list[dict[str, object]]:
    """Fit without one strong recognizer as the unseen one, and say what is then said of it."""
    table = []
    for left_out in (DLIB, MS1M):
        rest = [row for row in rows if row["unseen"] != left_out]
        judged = [row for row in rows if row["unseen"] == left_out]
        calibration = fit(*learned(rest), ridge=ridge)
        evidence, matched = learned(judged)
        table += said_and_found(calibration, evidence, matched, left_out)
    return table


def said_and_found(
    calibration: Calibration, evidence: Sequence[Evidence], matched: Sequence[bool], name: str
) -> list[dict[str, object]]:
    """Return, by ranges of the probability said, how many faces were matched."""
    said = np.array([calibration.estimate(one).probability for one in evidence])
    truth = np.array(matched)
    table = []
    for low, high in ((0, MOST_PROBABLE), (MOST_PROBABLE, 0.2), (0.2, 0.5), (0.5, 1.01)):
        chosen = (said >= low) & (said < high)
        if chosen.any():
            rate = wilson(int(truth[chosen].sum()), int(chosen.sum()))
            table.append(
                {
                    "unseen": name,
                    "said": [low, min(high, 1)],
                    "faces": int(chosen.sum()),
                    "mean_said": round(float(said[chosen].mean()), 4),
                    "matched": round(rate.value, 4),
                    "interval": [round(rate.low, 4), round(rate.high, 4)],
                }
            )
    return table


def read_pairs(
    root: Path, people: int, detector: FaceDetector
) -> list[tuple[int, Portrait, Portrait]]:
    """Return two photos each of people spread over the folder's list, and their places in it.

    Of those with few photos: the weak recognizer, which judges, learned from the others.
    """
    everyone = sorted(path for path in root.iterdir() if path.is_dir())
    folders = [path for path in everyone if len(list(path.iterdir())) < WEAK_LEARNED]
    pairs = []
    step = max(1, len(folders) // people)
    for place in range(0, len(folders), step)[:people]:
        folder = folders[place]
        paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES]
        found = [read_portrait(path, folder.name, detector) for path in paths[:2]]
        if len(found) == 2 and found[0] is not None and found[1] is not None:
            pairs.append((place, found[0], found[1]))
    return pairs


def ask(card: ModelCard, folder: Path) -> Asked:
    """Load a recognizer with its threshold."""
    return Asked(recognizer_of(card, folder), float(card.metrics["thresholds"]["0.01"]))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--people", type=int, default=24)
    parser.add_argument(
        "--steps",
        type=int,
        default=30,
        help="of a search: fewer than a preset's, for both outcomes",
    )
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--ridge", type=float, default=2.0)
    parser.add_argument("--fit-only", action="store_true", help="of the rows that are there")
    arguments = parser.parse_args()
    kept = json.loads(arguments.rows.read_text()) if arguments.rows.is_file() else {}
    if not arguments.fit_only:
        collect(arguments.data, arguments.people, arguments.steps, arguments.rows, kept)
    rows = [row for name in sorted(kept) for row in kept[name]]
    evidence, matched = learned(rows)
    table = reliability(rows, arguments.ridge)
    card = {
        "what": "probability that a strong recognizer that was not asked matches a cloaked face",
        "data": "faces/train: LFW, research use; figures only",
        "people": len({row["person"] for row in rows}),
        "rows": len(rows),
        "recognizers": [DLIB, MS1M, WEAK],
        "script": "python -m research.train.cloak_verdict",
        "ridge": arguments.ridge,
        "left_out": table,
    }
    write(fit(evidence, matched, ridge=arguments.ridge), card, arguments.out)
    print(json.dumps(table, indent=1))


def collect(
    data: Path, people: int, steps: int, path: Path, kept: dict[str, list[dict[str, object]]]
) -> None:
    """Cloak the people and write down their rows, a few at a time."""
    detector = FaceDetector()
    pairs = read_pairs(data / "faces" / "train", people, detector)
    asked = {name: ask(*find_models()[name]) for name in (DLIB, MS1M, WEAK)}
    for start in range(0, len(pairs), AT_ONCE):
        for level in LEVELS:
            chosen = range(start, min(start + AT_ONCE, len(pairs)))
            numbers = [one for one in chosen if LEVELS[one % len(LEVELS)] == level]
            part = [pairs[one][1:] for one in numbers]
            people_of_part = [pairs[one][0] for one in numbers]
            for searched in SEARCHED:
                config = replace(PRESETS[level], steps=steps)
                key = f"{level} {'+'.join(searched)} {start}-{numbers} {hash_of(config)}"
                if not part or key in kept:
                    continue
                changed = cloaked(
                    [one for one, _ in part],
                    [asked[name].recognizer for name in searched],
                    config,
                    detector,
                    seed=SEED + start,
                    say=lambda line: print(line, file=sys.stderr),
                )
                kept[key] = [
                    {"person": people_of_part[index % len(part)], "preset": level, **row}
                    for index, row in enumerate(rows_of(searched, part, changed, asked))
                ]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(kept, indent=0) + "\n")
                print(key, file=sys.stderr, flush=True)


def hash_of(config: object) -> str:
    """Return a short fingerprint of settings."""
    return hashlib.sha256(repr(config).encode()).hexdigest()[:8]


if __name__ == "__main__":
    main()
