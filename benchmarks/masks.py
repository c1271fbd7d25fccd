"""A generator step against the recognizer's own passes, and what a run of 200 people takes.

``python -m benchmarks.masks [--rounds 5] [--people 200] [--epochs 2] [--threads 1]``

The limit is one forward and one backward pass of the shipped recognizer on a ready batch of faces,
as it computes in training (``quickened``); *as loaded* is the same recognizer before that. A step
of this library besides draws designs, puts them on faces read from a file, judges the terms on
them, and moves the generator. Goal: .9 of the limit. Where the hardware has bfloat16, limit and
library are timed in it, too. People are random pictures: the time does not depend on who is shown.

Then whole epochs are timed with ``--people``, and those of the goal (200 people, 100 epochs, 15
minutes) are computed from them. Last the memory that a run takes is measured in a process of its
own for few and for many people, whose faces lie in a file: goal, it does not grow with them.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks._timing import share, take_turns
from services.worker.faces.alignment import FRAME, FRAME_POINTS
from services.worker.masks.projector import fit
from services.worker.masks.training import MaskConfig, train_masks
from services.worker.masks.wearers import Wearers
from services.worker.models.optimized.frozen import has_fast_bf16, quickened, with_bf16_weights
from services.worker.models.recognizers import Recognizer, recognizer_of
from services.worker.models.registry import find_models

BATCH = 32
STEPS = 2  # a round
GOAL_PEOPLE, GOAL_EPOCHS = 200, 100
MODELS = ("face-student-112", "face-residual-112")
LIMIT, LOADED = "bare passes", "bare passes, as loaded"
FAST_LIMIT, FAST = "bare passes, bf16", "bauta, bf16"


def shipped() -> Recognizer:
    """Return the first recognizer that is installed."""
    cards = find_models()
    return recognizer_of(*next(cards[name] for name in MODELS if name in cards))


def random_people(count: int, folder: Path) -> Wearers:
    """Write so many people's faces to a file, and open it without reading it."""
    path = folder / f"{count}.npy"
    frames = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.uint8, shape=(count, FRAME, FRAME, 3)
    )
    rng = np.random.default_rng(0)
    for number in range(count):
        frames[number] = rng.integers(0, 256, (FRAME, FRAME, 3), dtype=np.uint8)
    frames.flush()
    del frames
    points = FRAME_POINTS + rng.normal(0, 2, (count, 5, 2))
    names = tuple(f"{number:06d}" for number in range(count))
    return Wearers(np.load(path, mmap_mode="r"), fit(points), torch.arange(count), names)


def bare_passes(
    recognizer: Recognizer, faces: torch.Tensor, *, bf16: bool = False
) -> Callable[[], int]:
    """Return the passes that no training can do without."""
    batch = faces.contiguous(memory_format=torch.channels_last).requires_grad_()

    def work() -> int:
        for _ in range(STEPS):
            batch.grad = None
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                embeddings = recognizer.of_frames(batch)
            embeddings.sum().backward()
        return STEPS

    return work


def compare(rounds: int, folder: Path) -> None:
    """Print steps a second and their share of the limit."""
    recognizer = shipped()
    wearers = random_people(STEPS * BATCH, folder)
    faces = wearers.faces(range(BATCH), recognizer.input_size[0])
    seconds: dict[str, list[float]] = {}

    def ours(name: str, *, bf16: bool) -> int:
        config = MaskConfig(epochs=1, batch_size=BATCH, bf16=bf16)
        run = train_masks(wearers, [recognizer], config)
        seconds.setdefault(name, []).append(run.seconds)
        return STEPS

    quick = quickened(recognizer)
    candidates = {
        LIMIT: bare_passes(quick, faces.clone()),
        LOADED: bare_passes(recognizer, faces.clone()),
        "bauta": partial(ours, "bauta", bf16=False),
    }
    if has_fast_bf16(torch.device("cpu")):
        candidates[FAST_LIMIT] = bare_passes(with_bf16_weights(quick), faces.clone(), bf16=True)
        candidates[FAST] = partial(ours, FAST, bf16=True)
    rates = take_turns(candidates, rounds)
    # A run embeds its people once, however long it trains: that is not in its epochs' seconds.
    rates |= {name: [STEPS / each for each in run[1:]] for name, run in seconds.items()}
    print(f"{recognizer.identifier}, batches of {BATCH}: steps a second, share of {LIMIT}")
    for name, rate in rates.items():
        print(f"{name:24} {sorted(rate)[len(rate) // 2]:6.2f}/s {share(rates, name, LIMIT)}")
    if FAST in rates:
        print(f"{FAST} of {FAST_LIMIT}: {share(rates, FAST, FAST_LIMIT)}")


def time_run(people: int, epochs: int, folder: Path) -> None:
    """Print what the goal's run takes, from whole epochs of so many people."""
    wearers = random_people(people, folder)
    config = MaskConfig(epochs=epochs, batch_size=BATCH, bf16=has_fast_bf16(torch.device("cpu")))
    run = train_masks(wearers, [shipped()], config)
    each = run.seconds / epochs
    whole = each * GOAL_PEOPLE / people * GOAL_EPOCHS / 60
    print(
        f"{people} people: {each:.1f} s an epoch; {GOAL_PEOPLE} people and {GOAL_EPOCHS} epochs: "
        f"{whole:.1f} minutes"
    )


def peak(people: int) -> None:
    """Print the most memory of a short run in MiB, looked at in every step.

    Pages of the file with the faces are not counted: the system takes them back when it needs to.
    """
    seen: list[int] = []

    def look() -> None:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
        seen.append(int(line.split()[1]) // 1024)

    with tempfile.TemporaryDirectory() as folder:
        wearers = random_people(people, Path(folder))
        config = MaskConfig(epochs=1, batch_size=BATCH)
        train_masks(wearers, [shipped()], config, check_cancel=look)
    print(max(seen))


def compare_memory(counts: tuple[int, int]) -> None:
    """Print the peak memory of few people and of many, each in its own process."""
    found = []
    for count in counts:
        command = [sys.executable, "-m", "benchmarks.masks", "--peak", str(count)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(int(done.stdout))
    size = FRAME * FRAME * 3 / 2**20
    few, many = counts
    print(
        f"peak memory: {found[0]} MiB with {few} people, {found[1]} MiB with {many} "
        f"(their faces: {few * size:.0f} and {many * size:.0f} MiB on the disk)"
    )


def main() -> None:
    """Print steps, the time of a run, and its memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--people", type=int, default=GOAL_PEOPLE)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", type=int, nargs=2, default=(64, 1024), help="of so many people")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.peak is not None:
        peak(chosen.peak)
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(chosen.rounds, Path(folder))
        time_run(chosen.people, chosen.epochs, Path(folder))
    compare_memory(tuple(chosen.memory))


if __name__ == "__main__":
    main()
