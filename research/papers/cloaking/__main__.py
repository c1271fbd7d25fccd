"""``python -m research.papers.cloaking``: judges ``encrypt`` and writes its page of results.

One photo of each person of ``faces/test`` is a probe, another is in the gallery, and so are the
people of ``faces/distractors``. Everything is cloaked through the whole pipeline: written as a
file, read again, its faces found again. What is done is kept under ``reproduction/``.
"""

import argparse
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from research.papers.cloaking.figures import (
    EXCHANGED,
    JUDGE,
    STRONG,
    SURROGATE,
    Crowd,
    Figures,
    Judging,
    frames_of,
    judge_all,
)
from research.papers.cloaking.page import page
from research.papers.cloaking.portraits import (
    FACES_AT_ONCE,
    Changed,
    Portrait,
    blurred,
    cloaked,
    joined,
    looked_at,
    pixelated,
    read_people,
)
from research.papers.cloaking.verdicts import verdicts_of
from research.papers.markdown import deliver
from services.worker.faces.cloaking.config import PRESETS, CloakConfig
from services.worker.faces.detection import FaceDetector
from services.worker.models.recognizers import Recognizer, recognizer_of
from services.worker.models.registry import find_models

SEED = 11
PRESETS_SHOWN = ("low", "medium", "high", "live")
APART = ("high", "medium")  # presets that are also searched with one strong recognizer alone


class Bench:
    """Makes changed portraits once, and keeps them in a folder."""

    def __init__(
        self,
        crowd: Crowd,
        recognizers: Mapping[str, Recognizer],
        hashes: Mapping[str, str],
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self.crowd, self.recognizers, self.hashes = crowd, recognizers, hashes
        self.folder, self.say = folder, say
        self.detector = FaceDetector()
        folder.mkdir(parents=True, exist_ok=True)

    def cloaked(
        self,
        config: CloakConfig,
        searched: Sequence[str] = STRONG,
        *,
        gallery: bool = False,
        people: int | None = None,
    ) -> Changed:
        """Cloak the probes, or the gallery's photos of the same people: all, or the first few."""
        portraits = (self.crowd.gallery if gallery else self.crowd.probes)[:people]
        seed = SEED + (10_000 if gallery else 0)
        parts = []
        for start in range(0, len(portraits), FACES_AT_ONCE):
            part = portraits[start : start + FACES_AT_ONCE]
            key = f"{asdict(config)} {[self.hashes[name] for name in searched]} {seed} {start}"
            key += f" {[one.person for one in part]}"

            def make(part: list[Portrait] = part, start: int = start) -> Changed:
                self.say(f"  {' + '.join(searched)}: {start + len(part)} of {len(portraits)}")
                used = [self.recognizers[name] for name in searched]
                return cloaked(part, used, config, self.detector, seed=seed + start, say=_silent)

            parts.append(self._kept(key, make))
        return joined(parts)

    def control(self, name: str, strength: float) -> Changed:
        """Blur or pixelate the probes' faces."""

        def make() -> Changed:
            change = {"blur": blurred, "pixelation": pixelated}[name]
            photos = change(self.crowd.probes, strength)
            return looked_at(self.crowd.probes, photos, self.detector)

        return self._kept(f"{name} {strength} {len(self.crowd.probes)}", make)

    def _kept(self, key: str, make: Callable[[], Changed]) -> Changed:
        path = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
        if path.is_file():
            with np.load(path) as kept:
                return Changed(
                    kept["frames"],
                    kept["ssim"],
                    kept["psnr"],
                    kept["color"],
                    float(kept["seconds"]),
                    int(kept["found_again"]),
                )
        made = make()
        part = path.with_suffix(".part.npz")
        np.savez(part, **asdict(made))
        part.replace(path)
        return made


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("reproduction/cloaking"))
    parser.add_argument("--people", type=int, help="fewer people, to try it out")
    parser.add_argument(
        "--on-train", action="store_true", help="people of faces/train, to choose settings by"
    )
    parser.add_argument("--presets", nargs="*", default=list(PRESETS_SHOWN))
    parser.add_argument("--strangers", type=int, help="fewer further people in the gallery")
    parser.add_argument("--apart", nargs="*", default=list(APART))
    parser.add_argument("--apart-people", type=int, help="fewer people for one strong left out")
    parser.add_argument("--exchange-people", type=int, help="fewer people for cloaked galleries")
    parser.add_argument("--out", type=Path, help="default: print the page")
    arguments = parser.parse_args()

    def say(line: str) -> None:
        print(line, flush=True)

    detector = FaceDetector()
    faces = arguments.data / "faces"
    rows = read_people(
        faces / ("train" if arguments.on_train else "test"),
        detector,
        photos=2,
        people=arguments.people,
    )
    strangers = []
    if not arguments.on_train:
        strangers = read_people(
            faces / "distractors", detector, photos=1, people=arguments.strangers
        )
    crowd = Crowd([row[1] for row in rows], [row[0] for row in rows], [row[0] for row in strangers])
    say(f"{len(crowd.probes)} people, {len(crowd.distractors)} others in the gallery")
    cards = {name: find_models()[name] for name in (*STRONG, SURROGATE, JUDGE)}
    recognizers = {name: recognizer_of(*cards[name]) for name in cards}
    hashes = {name: card.sha256 for name, (card, _) in cards.items()}
    lenient = {name: card.metrics["thresholds"]["0.01"] for name, (card, _) in cards.items()}
    bench = Bench(crowd, recognizers, hashes, arguments.cache, say)
    judges = [Judging(one, crowd) for one in recognizers.values()]
    probes = frames_of(crowd.probes)
    clean = {one.recognizer.identifier: one.figures(probes) for one in judges}
    lines = [
        judge_all(name, bench.cloaked(PRESETS[name]), judges, STRONG) for name in arguments.presets
    ]
    apart = [
        judge_all(
            name,
            bench.cloaked(PRESETS[name], (one,), people=arguments.apart_people),
            judges,
            (one,),
        )
        for name in arguments.apart
        for one in STRONG
    ]
    controls = [
        judge_all(f"{name}, {strength:g} px", bench.control(name, strength), judges)
        for name, strength in (("blur", 3.0), ("blur", 8.0), ("pixelation", 8), ("pixelation", 20))
    ]
    exchange: dict[str, dict[str, Figures]] = {}
    if EXCHANGED in arguments.presets:
        few = arguments.exchange_people
        config = PRESETS[EXCHANGED]
        galleries = bench.cloaked(config, gallery=True, people=few).frames[:, 1]
        changed = bench.cloaked(config).frames[:few, 1]
        # Of people whose gallery photo is not cloaked the clean one stays.
        mixed = np.concatenate([galleries, frames_of(crowd.gallery)[len(galleries) :]])
        both = np.concatenate([frames_of(crowd.gallery), mixed])
        exchange = {
            one.recognizer.identifier: {
                "clean probe, clean gallery": one.figures(probes[:few]),
                "cloaked probe, clean gallery": one.figures(changed),
                "clean probe, cloaked gallery": one.figures(probes[:few], mixed),
                "cloaked probe, cloaked gallery": one.figures(changed, mixed),
                "cloaked probe, both in the gallery": one.figures(changed, both),
            }
            for one in judges
        }
    said = [
        row for line in (*lines, *apart) for row in verdicts_of(line, crowd.probes, judges, lenient)
    ]
    text = page(
        crowd,
        clean,
        lines,
        apart,
        controls,
        exchange,
        said,
        command=_command(arguments),
        folder="faces/train" if arguments.on_train else "faces/test",
    )
    deliver(text, arguments.out, say)


def _silent(line: str) -> None:
    del line


def _command(arguments: argparse.Namespace) -> str:
    """Return what to run to write the same page."""
    words = ["python -m research.papers.cloaking"]
    for name in ("people", "strangers", "apart_people", "exchange_people"):
        value = getattr(arguments, name)
        if value is not None:
            words.append(f"--{name.replace('_', '-')} {value}")
    if arguments.presets != list(PRESETS_SHOWN):
        words.append(f"--presets {' '.join(arguments.presets)}")
    if arguments.apart != list(APART):
        words.append(f"--apart {' '.join(arguments.apart)}")
    if arguments.on_train:
        words.append("--on-train")
    return " ".join(words)


if __name__ == "__main__":
    main()
