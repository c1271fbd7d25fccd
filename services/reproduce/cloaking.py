"""``python -m services.reproduce.cloaking``: judges ``encrypt`` and writes its page of results.

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

from services.reproduce.cloaking_figures import (
    JUDGE,
    SURROGATE,
    Crowd,
    Judging,
    frames_of,
    judge_all,
)
from services.reproduce.cloaking_page import page
from services.reproduce.portraits import (
    Changed,
    blurred,
    cloaked,
    looked_at,
    pixelated,
    read_people,
)
from services.reproduce.tables import deliver
from services.worker.faces.cloaking.config import PRESETS, CloakConfig
from services.worker.faces.detection import FaceDetector
from services.worker.models.recognizers import Recognizer, load_checkpoint, recognizer_of
from services.worker.models.registry import find_models

SEED = 11
CURVE = (3.0, 6.0, 8.0, 12.0, 20.0)  # eps of the trade-off, beside the presets'


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

    def cloaked(self, config: CloakConfig, *, gallery: bool = False) -> Changed:
        """Cloak the probes, or the gallery's photos of the same people."""
        portraits = self.crowd.gallery if gallery else self.crowd.probes
        seed = SEED + (10_000 if gallery else 0)
        key = f"{asdict(config)} {self.hashes} {seed} {len(portraits)}"

        def make() -> Changed:
            self.say(f"  cloaking {'the gallery' if gallery else 'the probes'}: {config}")
            return cloaked(
                portraits, self.surrogates, config, self.detector, seed=seed, say=self.say
            )

        return self._kept(key, make)

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
    curve = [
        judge_all(f"eps {eps:g}", bench.cloaked(replace(PRESETS["medium"], eps=eps)), judges)
        for eps in CURVE
    ]
    controls = [
        judge_all(f"{name}, {strength:g} px", bench.control(name, strength), judges)
        for name, strength in (("blur", 3.0), ("blur", 8.0), ("pixelation", 8), ("pixelation", 20))
    ]
    default = PRESETS["medium"]
    galleries = bench.cloaked(default, gallery=True).frames[:, 1]
    probes = bench.cloaked(default).frames[:, 1]
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
    text = page(crowd, lines, curve, controls, exchange, teacher=arguments.teacher is not None)
    deliver(text, arguments.out, say)


if __name__ == "__main__":
    main()
