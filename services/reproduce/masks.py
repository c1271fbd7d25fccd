"""``python -m services.reproduce.masks``: judges ``generate-mask`` and writes its page of results.

Generators are trained on people of ``faces/train`` and judged on those of ``faces/test``, whom
neither they nor the recognizers that ship have seen. What is done is kept under ``reproduction/``.
"""

import argparse
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from services.reproduce.cloaking_figures import JUDGE, SURROGATE
from services.reproduce.masks_page import Line, Named, page
from services.reproduce.tables import deliver
from services.worker.faces.detection import FaceDetector
from services.worker.masks.evaluation import MaskJudge, named_right, random_pattern
from services.worker.masks.generators import build_generator, latents
from services.worker.masks.outlines import plain
from services.worker.masks.terms import likeness
from services.worker.masks.training import TEMPLATES, MaskConfig, train_masks
from services.worker.masks.wearers import Wearers, aligned_wearer, gather
from services.worker.models.recognizers import Recognizer, load_checkpoint, recognizer_of
from services.worker.models.registry import find_models
from services.worker.training.identities import photos_of, read_photo
from services.worker.training.metrics import wilson

SEED = 3
DESIGNS = 8
PLAIN = {"plain blue": (0.35, 0.6, 0.85), "plain white": (0.92, 0.92, 0.92)}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """What a generator draws, and whom its discriminator knows."""

    designs: Tensor
    seconds: float
    named: Named | None


def read_wearers(
    root: Path, detector: FaceDetector, *, photos: int, people: int | None, seed: int
) -> Wearers:
    """Align so many photos of so many people, drawn at random; all people where none is given."""
    rows: dict[str, list[Path]] = {}
    for name, path in photos_of(root):
        rows.setdefault(name, []).append(path)
    names = sorted(rows)
    if people is not None and people < len(names):
        drawn = np.random.default_rng(seed).choice(len(names), people, replace=False)
        names = sorted(names[index] for index in drawn)
    found = []
    for name in names:
        for path in rows[name][:photos]:
            photo = read_photo(path)
            faces = detector.detect(photo)
            if faces:
                found.append((name, *aligned_wearer(photo, faces[0])))
    return gather(found)


def at_least(wearers: Wearers, photos: int) -> Wearers:
    """Keep the people with so many photos, numbered anew."""
    counts = torch.bincount(wearers.people, minlength=len(wearers.names))
    which = torch.nonzero(counts[wearers.people] >= photos)[:, 0].tolist()
    return wearers.of(which).renumbered()


class Shop:
    """Trains generators once, and keeps them in a folder."""

    def __init__(
        self, wearers: Wearers, surrogates: Sequence[Recognizer], key: str, folder: Path, say: Say
    ) -> None:
        self.wearers, self.surrogates, self.key = wearers, surrogates, key
        self.folder, self.say = folder, say
        folder.mkdir(parents=True, exist_ok=True)

    def trained(self, config: MaskConfig) -> Trained:
        """Return designs of a trained generator, the seconds it took, and its discriminator's."""
        text = f"{asdict(config)} {self.key} {len(self.wearers)} named"
        path = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
        if path.is_file():
            return _read(path)
        self.say(f"  training {config}")
        run = train_masks(self.wearers, self.surrogates, config)
        with torch.inference_mode():
            drawn = run.generator(latents(DESIGNS, torch.Generator().manual_seed(SEED)))
        part = path.with_suffix(".part.npz")
        np.savez(
            part, designs=drawn.numpy(), seconds=run.seconds, named=self._named(run.heads, drawn)
        )
        part.replace(path)
        return _read(path)

    def _named(self, heads: Sequence[nn.Module], designs: Tensor) -> NDArray[np.int64]:
        """Count right names, and all, in generated masks, template masks, and bare: ``(3, 2)``."""
        if not heads:
            return np.zeros((0, 2), dtype=np.int64)
        templates = torch.cat([plain(color) for color in TEMPLATES])
        rates = [
            named_right(self.wearers, self.surrogates[0], heads[0], worn)
            for worn in (designs, templates, None)
        ]
        return np.array([(rate.successes, rate.total) for rate in rates], dtype=np.int64)


def _read(path: Path) -> Trained:
    with np.load(path) as kept:
        designs, seconds = torch.from_numpy(kept["designs"]), float(kept["seconds"])
        rates = [wilson(right, total) for right, total in kept["named"].tolist()]
    return Trained(designs, seconds, Named(*rates) if rates else None)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("reproduction/masks"))
    parser.add_argument("--teacher", type=Path, help="checkpoint of a MobileFaceNet to judge by")
    parser.add_argument("--people", type=int, default=200, help="to train on")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--judged", type=int, help="people to judge by; default: all")
    parser.add_argument("--out", type=Path, help="default: print the page")
    arguments = parser.parse_args()

    def say(line: str) -> None:
        print(line, flush=True)

    detector = FaceDetector()
    faces = arguments.data / "faces"
    training = read_wearers(faces / "train", detector, photos=5, people=arguments.people, seed=SEED)
    judged = at_least(
        read_wearers(faces / "test", detector, photos=3, people=arguments.judged, seed=SEED), 2
    )
    say(f"{len(training.names)} people to train on, {len(judged.names)} to judge by")
    cards = {name: find_models()[name] for name in (SURROGATE, JUDGE)}
    recognizers = {name: recognizer_of(*cards[name]) for name in cards}
    judges = {name: MaskJudge(one, judged) for name, one in recognizers.items()}
    if arguments.teacher is not None:
        teacher = load_checkpoint(arguments.teacher, "mobilefacenet")
        judges[teacher.identifier] = MaskJudge(teacher, judged)
    shop = Shop(
        training,
        [recognizers[SURROGATE]],
        f"{cards[SURROGATE][0].sha256} {arguments.people}",
        arguments.cache,
        say,
    )
    lines = []
    for name, config in runs(arguments.epochs).items():
        made = shop.trained(config)
        figures = {key: judge.wearing(made.designs) for key, judge in judges.items()}
        people, alike = len(training.names), float(likeness(made.designs))
        lines.append(Line(name, config, made.seconds, people, alike, figures, made.named))
        say(f"{name}: " + ", ".join(f"{k} {v.rank_1}" for k, v in figures.items()))
    untrained = build_generator("convolutional", seed=SEED)
    with torch.inference_mode():
        other = untrained(latents(DESIGNS, torch.Generator().manual_seed(SEED)))
    controls = {
        "nothing": {name: judge.bare for name, judge in judges.items()},
        **{
            name: {key: judge.wearing(plain(color)) for key, judge in judges.items()}
            for name, color in PLAIN.items()
        },
        "random pattern": {
            key: judge.wearing(random_pattern(SEED)) for key, judge in judges.items()
        },
        "another design (untrained)": {key: judge.wearing(other) for key, judge in judges.items()},
    }
    text = page(lines, controls, len(judged.names), teacher=arguments.teacher is not None)
    deliver(text, arguments.out, say)


def runs(epochs: int) -> dict[str, MaskConfig]:
    """Return what is trained: the generators freely, and paper 004's four experiments."""
    free = {
        f"{name}, free": MaskConfig(
            generator=name,
            epochs=epochs,
            max_lr=0.3 if name == "pixels" else 0.005,
            seed=SEED,
        )
        for name in ("convolutional", "pixels", "dense")
    }
    played = {
        f"dense, experiment {number}": MaskConfig(
            generator="dense", experiment=number, epochs=epochs, seed=SEED
        )
        for number in ("0", "1", "2", "3")
    }
    return free | played


if __name__ == "__main__":
    main()
