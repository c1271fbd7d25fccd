"""``python -m research.papers.cloaking``: judges ``encrypt`` and writes its page of results.

One photo of each person of ``faces/test`` is a probe, another is in the gallery, and so are the
people of ``faces/distractors``. Everything is cloaked through the whole pipeline: written as a
file, read again, its faces found again. What is done is kept under ``reproduction/``.
"""

import argparse
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from research.papers.cloaking.figures import (
    EXCHANGED,
    JUDGE,
    SURROGATE,
    Crowd,
    Judging,
    frames_of,
    judge_all,
)
from research.papers.cloaking.page import page
from research.papers.cloaking.portraits import (
    Changed,
    blurred,
    cloaked,
    looked_at,
    pixelated,
    read_people,
    unchanged,
)
from research.papers.markdown import deliver
from services.worker.faces.cloaking.config import PRESETS, CloakConfig
from services.worker.faces.detection import FaceDetector
from services.worker.models.recognizers import Recognizer, load_checkpoint, recognizer_of
from services.worker.models.registry import find_models

SEED = 11
CURVE = (0.97, 0.95, 0.922, 0.88)  # likenesses asked for
CURVE_PEOPLE = 40


class Bench:
    """Makes changed portraits once, and keeps them in a folder."""

    def __init__(
        self,
        crowd: Crowd,
        surrogates: Sequence[Recognizer],
        hashes: Sequence[str],
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self.crowd, self.surrogates, self.hashes = crowd, surrogates, hashes
        self.folder, self.say = folder, say
        self.detector = FaceDetector()
        folder.mkdir(parents=True, exist_ok=True)

    def cloaked(
        self, config: CloakConfig, *, gallery: bool = False, people: int | None = None
    ) -> Changed:
        """Cloak the probes, or the gallery's photos of the same people: all, or the first few."""
        portraits = (self.crowd.gallery if gallery else self.crowd.probes)[:people]
        seed = SEED + (10_000 if gallery else 0)
        key = f"{asdict(config)} {self.hashes} {seed} {len(portraits)}"

        def make() -> Changed:
            self.say(f"  cloaking {'the gallery' if gallery else 'the probes'}: {config}")
            return cloaked(
                portraits, self.surrogates, config, self.detector, seed=seed, say=self.say
            )

        return self._kept(key, make)

    def traded(self, likeness: float, people: int) -> Changed:
        """Cloak the first probes with ``high`` at another likeness; its own is made already."""
        config = PRESETS["high"]
        if likeness == config.likeness:
            return self.cloaked(config).first(people)
        return self.cloaked(replace(config, likeness=likeness), people=people)

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
    parser.add_argument("--teacher", type=Path, help="checkpoint of a MobileFaceNet to judge by")
    parser.add_argument("--people", type=int, help="fewer people, to try it out")
    parser.add_argument(
        "--on-train", action="store_true", help="people of faces/train, to choose settings by"
    )
    parser.add_argument("--presets", nargs="*", default=["low", "medium", "high", "live"])
    parser.add_argument(
        "--curve-people", type=int, default=CURVE_PEOPLE, help="for the trade-off, which is long"
    )
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
    strangers = [] if arguments.on_train else read_people(faces / "distractors", detector, photos=1)
    crowd = Crowd([row[1] for row in rows], [row[0] for row in rows], [row[0] for row in strangers])
    say(f"{len(crowd.probes)} people, {len(crowd.distractors)} others in the gallery")
    cards = {name: find_models()[name] for name in (SURROGATE, JUDGE)}
    recognizers = {name: recognizer_of(*cards[name]) for name in cards}
    bench = Bench(
        crowd, [recognizers[SURROGATE]], [cards[SURROGATE][0].sha256], arguments.cache, say
    )
    judges = [Judging(one, crowd) for one in recognizers.values()]
    if arguments.teacher is not None:
        judges.append(Judging(load_checkpoint(arguments.teacher, "mobilefacenet"), crowd))
    lines = [judge_all(name, bench.cloaked(PRESETS[name]), judges) for name in arguments.presets]
    few = arguments.curve_people
    curve = [judge_all("none", unchanged(crowd.probes[:few]), judges)] + [
        judge_all(f"{likeness:g}", bench.traded(likeness, few), judges) for likeness in CURVE
    ]
    controls = [
        judge_all(f"{name}, {strength:g} px", bench.control(name, strength), judges)
        for name, strength in (("blur", 3.0), ("blur", 8.0), ("pixelation", 8), ("pixelation", 20))
    ]
    exchanged = PRESETS[EXCHANGED]
    galleries = bench.cloaked(exchanged, gallery=True).frames[:, 1]
    probes = bench.cloaked(exchanged).frames[:, 1]
    clean = frames_of(crowd.probes)
    both = np.concatenate([frames_of(crowd.gallery), galleries])
    exchange = {
        one.recognizer.identifier: {
            "clean probe, clean gallery": one.figures(clean),
            "cloaked probe, clean gallery": one.figures(probes),
            "clean probe, cloaked gallery": one.figures(clean, galleries),
            "cloaked probe, cloaked gallery": one.figures(probes, galleries),
            "cloaked probe, both in the gallery": one.figures(probes, both),
        }
        for one in judges
    }
    text = page(crowd, lines, curve, controls, exchange, command=_command(arguments))
    deliver(text, arguments.out, say)


def _command(arguments: argparse.Namespace) -> str:
    """Return what to run to write the same page."""
    words = ["python -m research.papers.cloaking"]
    if arguments.teacher is not None:
        words.append(f"--teacher {arguments.teacher}")
    if arguments.people is not None:
        words.append(f"--people {arguments.people}")
    if arguments.curve_people != CURVE_PEOPLE:
        words.append(f"--curve-people {arguments.curve_people}")
    if arguments.on_train:
        words.append("--on-train")
    return " ".join(words)


if __name__ == "__main__":
    main()
