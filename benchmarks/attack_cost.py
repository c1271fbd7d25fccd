"""Cost against the number of images and of pixels, and success against queries; as a picture.

``python -m benchmarks.attack_cost [--rounds 3] [--out FILE] [--data ../shared/data]``

Cost is measured on one thread, every size once in each round: differential evolution on images of
32 px, then PGD and the Square attack on ever larger ones, by the small network with fresh weights
at that size. A straight line, an offset and so much a unit, says by its R2 how linear the cost is.
Success is that of the attacks that see no gradients, on validation pictures which the shipped
network has right.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks._timing import take_turns
from services.worker.attacks.base import Attack
from services.worker.attacks.criteria import Untargeted
from services.worker.attacks.de import DifferentialEvolution
from services.worker.attacks.hopskipjump import HopSkipJump
from services.worker.attacks.pgd import PGD
from services.worker.attacks.results import AttackBatch
from services.worker.attacks.runner import run
from services.worker.attacks.sparse_rs import SparseRS
from services.worker.attacks.square import Square
from services.worker.datasets.labeled import load_class_folders
from services.worker.models.base import Classifier
from services.worker.models.registry import find_models, load_model

IMAGES = (4, 8, 16, 32, 64)
SIDES = (32, 64, 128, 256)
MODEL = "mask-cnn-32"
L2_WITHIN = 510.0  # when the label-only attack counts as successful
# Steps are few and fixed, and nothing stops early: all sizes do the same work an image.
OF_IMAGES: dict[str, Attack] = {
    "de, population 50": DifferentialEvolution(population=50, generations=3, early_stop=False),
    "pgd, 10 steps": PGD(eps=1, steps=10, early_stop=False),
}
OF_PIXELS: dict[str, Attack] = {
    "pgd, 10 steps": PGD(eps=1, steps=10, early_stop=False),
    "sparse_rs, 20 queries": SparseRS(pixels=5, queries=20, early_stop=False),
}
Times = dict[int, list[float]]


def network() -> Classifier:
    """Return a small fully convolutional classifier with fresh weights, for any size."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 2),
    )
    model = Classifier(
        layers,
        architecture="convolutional",
        classes=("with_mask", "without_mask"),
        input_size=(SIDES[0], SIDES[0]),
    )
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def work(attack: Attack, model: Classifier, count: int, side: int) -> Callable[[], int]:
    """Return one attack on ``count`` images of ``side`` pixels; it returns 1."""
    generator = torch.Generator().manual_seed(side)
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        labels = model(images / 255).argmax(1)

    def once() -> int:
        run(attack, model, images, Untargeted(labels))
        return 1

    return once


def seconds(candidates: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each candidate in each round."""
    rates = take_turns(candidates, rounds)
    return {name: [1 / rate for rate in found] for name, found in rates.items()}


def measured(
    attack: Attack, sizes: Sequence[int], rounds: int, make: Callable[[Attack, int], Callable]
) -> Times:
    """Return seconds by size."""
    found = seconds({str(size): make(attack, size) for size in sizes}, rounds)
    return {int(size): times for size, times in found.items()}


def line_through(times: Times) -> tuple[float, float, float]:
    """Return offset, slope and R2 of the straight line through the median seconds."""
    sizes = np.array(list(times), dtype=float)
    middle = np.array([np.median(found) for found in times.values()])
    slope, offset = np.polyfit(sizes, middle, 1)
    off = float(((middle - offset - slope * sizes) ** 2).sum())
    return float(offset), float(slope), 1 - off / float(((middle - middle.mean()) ** 2).sum())


def curves(data: Path, count: int, queries: int) -> dict[str, AttackBatch]:
    """Return runs of attacks without gradients on pictures that the model has right."""
    card, folder = find_models()[MODEL]
    model = load_model(card, folder, device=torch.device("cpu")).classifier
    images, labels = pictures(data, model, count)
    attacks: dict[str, Attack] = {
        "square, 8/255": Square(eps=8, queries=queries),
        "square, L2 510/255": Square(eps=L2_WITHIN, norm="l2", queries=queries),
        "sparse_rs, 5 pixels": SparseRS(pixels=5, queries=queries),
        "de, 5 pixels": DifferentialEvolution(pixels=5, generations=queries // 100 - 1),
        "hopskipjump, L2 510/255": HopSkipJump(queries=queries, within=L2_WITHIN),
    }
    return {
        name: run(attack, model, images, Untargeted(labels)) for name, attack in attacks.items()
    }


def pictures(data: Path, model: Classifier, count: int) -> tuple[Tensor, Tensor]:
    """Return validation pictures that the model has right, and their labels."""
    folder = data / "mask_classification" / "val"
    found = load_class_folders(folder, model.classes, size=model.input_size[0])
    with torch.no_grad():
        right = (model(found.images / 255).argmax(1) == found.labels).nonzero()[:, 0]
    order = torch.randperm(len(right), generator=torch.Generator().manual_seed(0))[:count]
    chosen = right[order]
    return found.images[chosen], found.labels[chosen]


def draw(panels: dict[str, dict[str, Times]], runs: dict[str, AttackBatch], out: Path) -> None:
    """Draw costs with their spread on logarithmic axes, and the curves of success."""
    figure = Figure(figsize=(15, 4.5), dpi=110)
    axes = figure.subplots(1, 3)
    for place, (title, lines) in zip(axes, panels.items(), strict=False):
        for name, times in lines.items():
            sizes, middle = list(times), [float(np.median(found)) for found in times.values()]
            offset, slope, r2 = line_through(times)
            (dots,) = place.loglog(sizes, middle, "o", label=f"{name}: line, R² = {r2:.4f}")
            # A line with an offset bends on these axes.
            fitted = np.geomspace(sizes[0], sizes[-1])
            place.loglog(fitted, offset + slope * fitted, color=dots.get_color())
            low, high = [min(found) for found in times.values()], [max(t) for t in times.values()]
            place.fill_between(sizes, low, high, color=dots.get_color(), alpha=0.2, linewidth=0)
        place.set(xlabel=title, ylabel="seconds")
        place.set_xticks(sizes, labels=[f"{size:,}" for size in sizes])
        place.minorticks_off()
        place.grid(visible=True, which="both", alpha=0.3)
        place.legend(fontsize=8)
    for name, batch in runs.items():
        total = len(batch.counted)
        most = max(result.queries for result in batch.results)
        points = [(1, 0), *batch.success_curve(), (most, batch.successes)]
        x, y = [query for query, _ in points], [number / total for _, number in points]
        axes[2].step(x, y, where="post", label=name)
    axes[2].set(xlabel="queries", ylabel="share of images fooled", ylim=(-0.02, 1.02))
    axes[2].set_xscale("log")
    axes[2].grid(visible=True, alpha=0.3)
    if runs:
        axes[2].legend(fontsize=8)
    figure.savefig(out, format="png", bbox_inches="tight")


def main() -> None:
    """Print the lines and successes, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/output/attack-cost.png"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--most-images", type=int, default=max(IMAGES))
    parser.add_argument("--most-side", type=int, default=max(SIDES))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    model = network()
    counts = [count for count in IMAGES if count <= chosen.most_images]
    sides = [side for side in SIDES if side <= chosen.most_side]
    by_count = {
        name: measured(
            attack, counts, chosen.rounds, lambda attack, n: work(attack, model, n, SIDES[0])
        )
        for name, attack in OF_IMAGES.items()
    }
    by_side = {
        name: measured(attack, sides, chosen.rounds, lambda attack, s: work(attack, model, 4, s))
        for name, attack in OF_PIXELS.items()
    }
    by_pixels = {
        name: {side**2: found for side, found in times.items()} for name, times in by_side.items()
    }
    panels = {"images of 32 px": by_count, "pixels of each of 4 images": by_pixels}
    for title, lines in panels.items():
        for name, times in lines.items():
            offset, slope, r2 = line_through(times)
            print(f"{title}, {name}: {offset:.3f} s + {slope:.2e} s each, R2 = {r2:.4f}")
    runs = {}
    if chosen.data.is_dir():
        runs = curves(chosen.data, chosen.pictures, chosen.queries)
    for name, batch in runs.items():
        total = len(batch.counted)
        print(f"{name:26} fooled {batch.successes} of {total} within {chosen.queries} queries")
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    draw(panels, runs, chosen.out)
    print(f"drawn in {chosen.out}")


if __name__ == "__main__":
    main()
