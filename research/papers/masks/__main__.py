"""``python -m research.papers.masks``: judges ``generate-mask`` and writes its page of results.

Generators are trained on people of ``faces/train`` and judged on those of ``faces/test``, whom
neither they nor the recognizers that ship have seen. Each of the two that ship is trained against
and judges what was trained against the other. What is done is kept under ``reproduction/``.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from research.papers.cloaking.figures import JUDGE, SURROGATE
from research.papers.markdown import deliver
from research.papers.masks.page import DesignRow, page
from research.papers.masks.runs import DESIGNS, SEED, Plan, Shop, at_least, read_wearers
from services.worker.faces.detection import FaceDetector
from services.worker.masks.designs import Designs
from services.worker.masks.evaluation import MaskJudge, Recognized, random_pattern
from services.worker.masks.generators import build_generator, latents
from services.worker.masks.outlines import plain
from services.worker.masks.terms import likeness
from services.worker.masks.training import MaskConfig
from services.worker.models.optimized.frozen import has_fast_bf16
from services.worker.models.recognizers import Recognizer, load_checkpoint, recognizer_of
from services.worker.models.registry import find_models

PLAIN = {"plain blue": (0.35, 0.6, 0.85), "plain white": (0.92, 0.92, 0.92)}
TRAIN_PHOTOS, TEST_PHOTOS = 4, 10  # a person, at most
ENROLLED = 8  # of those to be judged by, at most, so that one is left to be recognized on

Judges = Mapping[str, MaskJudge]


def plans(epochs: int, played: int) -> list[Plan]:
    """Return what is trained: generators freely, for anybody and for their wearer, and paper 004's.

    ``epochs`` are those of free training, ``played`` those of the experiments and of the dense
    generator that stands beside them.
    """
    bf16 = has_fast_bf16(torch.device("cpu"))
    made = [
        Plan(
            f"{name}, free",
            (against,),
            MaskConfig(
                generator=name,
                epochs=epochs,
                max_lr=0.3 if name == "pixels" else 0.005,
                bf16=bf16,
                seed=SEED,
            ),
        )
        for name in ("convolutional", "pixels")
        for against in (SURROGATE, JUDGE)
    ]
    fitted = MaskConfig(epochs=epochs, conditional=True, diversity=0.0, bf16=bf16, seed=SEED)
    made += [
        Plan("convolutional, drawn for its wearer, free", (against,), fitted)
        for against in (SURROGATE, JUDGE)
    ]
    dense = MaskConfig(generator="dense", epochs=played, bf16=bf16, seed=SEED)
    made.append(Plan("dense, free", (SURROGATE,), dense))
    return made + [
        Plan(f"dense, experiment {number}", (SURROGATE,), replace(dense, experiment=number))
        for number in ("3", "2", "1", "0")  # the longest first: two processes end together
    ]


def controls(judges: Judges) -> dict[str, dict[str, Recognized]]:
    """Ask every judge about people who wear nothing, or what was not designed."""
    untrained = build_generator("convolutional", seed=SEED)
    with torch.inference_mode():
        other = untrained(latents(DESIGNS, torch.Generator().manual_seed(SEED)))
    return {
        "nothing": {name: judge.bare for name, judge in judges.items()},
        **{name: wearing(judges, plain(color)) for name, color in PLAIN.items()},
        "random pattern": wearing(judges, random_pattern(SEED)),
        "another design (untrained)": wearing(judges, other),
    }


def wearing(judges: Judges, designs: Tensor | Designs) -> dict[str, Recognized]:
    """Ask every judge about people who wear designs ``(K, 3, h, w)``."""
    return {name: judge.wearing(designs) for name, judge in judges.items()}


def recognizers(teacher: Path | None) -> dict[str, Recognizer]:
    """Load the two that ship, and the third-party teacher of the first where one is named."""
    cards = find_models()
    found = {name: recognizer_of(*cards[name]) for name in (SURROGATE, JUDGE)}
    if teacher is not None:
        loaded = load_checkpoint(teacher, "mobilefacenet")
        found[loaded.identifier] = loaded
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("reproduction/masks"))
    parser.add_argument("--teacher", type=Path, help="checkpoint of a MobileFaceNet to judge by")
    parser.add_argument("--people", type=int, default=200, help="to train on")
    parser.add_argument("--epochs", type=int, default=100, help="of free training")
    parser.add_argument("--played", type=int, default=40, help="epochs of paper 004's experiments")
    parser.add_argument("--judged", type=int, help="people to judge by; default: all")
    parser.add_argument("--processes", type=int, default=2, help="trainings side by side")
    parser.add_argument("--out", type=Path, help="default: print the page")
    arguments = parser.parse_args()

    def say(line: str) -> None:
        print(line, flush=True)

    torch.set_num_threads(max(1, min(arguments.processes, os.cpu_count() or 1)))
    detector = FaceDetector()
    faces = arguments.data / "faces"
    training = read_wearers(
        faces / "train", detector, photos=TRAIN_PHOTOS, people=arguments.people, seed=SEED
    )
    judged = at_least(
        read_wearers(
            faces / "test", detector, photos=TEST_PHOTOS, people=arguments.judged, seed=SEED
        ),
        2,
    )
    say(f"{len(training.names)} people to train on, {len(judged.names)} to judge by")
    shop = Shop(training, arguments.cache, arguments.processes, say)
    made = list(shop.trained(plans(arguments.epochs, arguments.played)))
    judges = {
        name: MaskJudge(one, judged, enrolled=ENROLLED)
        for name, one in recognizers(arguments.teacher).items()
    }
    lines = []
    for plan, trained in made:
        # A design is drawn from the photos that the wearer is known by, none that judges it.
        known = torch.from_numpy(judges[plan.against[0]].gallery)
        designs = trained.designs(known if plan.config.conditional else None)
        figures = wearing(judges, designs)
        lines.append(
            DesignRow(
                plan.name,
                plan.against,
                plan.config,
                trained.seconds,
                len(training.names),
                float(likeness(designs.shown)),
                figures,
                trained.named,
            )
        )
        say(f"{plan.name}: " + ", ".join(f"{k} {v.rank_1.value:.1%}" for k, v in figures.items()))
    text = page(
        sorted(lines, key=lambda line: (line.config.experiment != "free", line.name)),
        controls(judges),
        people=len(judged.names),
        probes=len(next(iter(judges.values())).probes),
        enrolled=ENROLLED,
        command=shlex.join(["python", "-m", "research.papers.masks", *sys.argv[1:]]),
    )
    deliver(text, arguments.out, say)


if __name__ == "__main__":
    main()
