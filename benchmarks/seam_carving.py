"""Seam carving against the PyPI package and the floor of its dynamic program, in one run.

``python -m benchmarks.seam_carving [--rounds 7] [--out benchmarks/output]``

Candidates take turns on the same photo (A/B/C, A/B/C, …) on one thread, so that a busy machine
slows all alike; ratios are taken within a round, and the median is given with the quartiles. The
floor is the recurrence of the cumulative cost alone, for every seam, without energies, backtracking
or removal: as a plain float32 loop, and in the 16 bits that Bauta uses.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numba
import numpy as np
import seam_carving as peer
from numpy.typing import NDArray
from skimage import data, transform
from threadpoolctl import threadpool_limits

from services.worker.defenses.seam_carving import carve
from services.worker.defenses.seam_carving.costs import accumulate_narrow
from services.worker.defenses.seam_carving.layout import GRADIENT, MARGIN, WALL, row_stride

mpl.use("Agg")
from matplotlib import pyplot

CASES = ((64, 32), (256, 32), (512, 224))
SIDES = (32, 64, 96, 128, 192, 256, 384, 512)
Photo = NDArray[np.uint8]


def photo(side: int) -> Photo:
    """Return scikit-image's astronaut at ``side`` pixels."""
    color = data.astronaut()
    if side == color.shape[0]:
        return color
    small = transform.resize(color, (side, side), anti_aliasing=True)
    return np.rint(small * 255).astype(np.uint8)


def once(run: Callable[[], object], least: float = 0.05) -> float:
    """Return seconds a call, over as many calls as take ``least`` seconds."""
    calls, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < least or not calls:
        run()
        calls += 1
    return passed / calls


def rotate(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time the candidates in turn, ``rounds`` times, after one call each to warm up."""
    for run in candidates.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            times[name].append(once(run))
    return times


def ratios(slow: list[float], fast: list[float]) -> str:
    """Return "median [quartile, quartile]" of the ratio in each round."""
    low, middle, high = statistics.quantiles([a / b for a, b in zip(slow, fast, strict=True)], n=4)
    return f"{middle:6.1f}x [{low:.1f}, {high:.1f}]"


@numba.njit
def plain_recurrence(energy: NDArray[np.float32], costs: NDArray[np.float32]) -> None:
    """Fill ``costs`` as a plain loop does."""
    height, width = energy.shape
    costs[0] = energy[0]
    for row in range(1, height):
        for column in range(width):
            best = costs[row - 1, column]
            if column > 0:
                best = min(best, costs[row - 1, column - 1])
            if column + 1 < width:
                best = min(best, costs[row - 1, column + 1])
            costs[row, column] = best + energy[row, column]


def floors(side: int, target: int) -> dict[str, Callable[[], object]]:
    """Return the recurrences over all sizes that carving ``side`` to ``target`` goes through."""
    sizes = [(side, width) for width in range(side, target, -1)]
    sizes += [(target, width) for width in range(side, target, -1)]
    energy = np.random.default_rng(0).integers(0, 100, (side, side))
    plain, costs = energy.astype(np.float32), np.empty((side, side), np.float32)
    stride = row_stride(side)
    rows = np.full((side, stride), WALL, np.uint16)
    rows[:, MARGIN : MARGIN + side] = energy
    cells, narrow, gray = rows.ravel(), np.full(side * stride, WALL, np.uint16), np.zeros(0, "u1")

    def in_floats() -> None:
        for height, width in sizes:
            plain_recurrence(plain[:height, :width], costs[:height, :width])

    def in_16_bits() -> None:
        for height, width in sizes:
            accumulate_narrow(gray, cells, narrow, GRADIENT, height, width, stride)

    return {"floor, float32": in_floats, "floor, 16 bits": in_16_bits}


def compare(rounds: int) -> None:
    """Print the ratios of all cases."""
    print("milliseconds an image, one thread; ratio: peer / ours, median [quartiles]")
    for side, target in CASES:
        image = photo(side)
        shape = (target, target)

        def ours(energy: str, image: Photo = image, target: int = target) -> Callable[[], object]:
            return lambda: carve(image[None], height=target, width=target, energy=energy).images

        def theirs(
            mode: str, image: Photo = image, shape: tuple[int, int] = shape
        ) -> Callable[[], object]:
            return lambda: peer.resize(image, shape, energy_mode=mode)

        candidates = {
            "ours, gradient": ours("gradient"),
            "seam-carving, gradient": theirs("backward"),
            **floors(side, target),
            "ours, forward": ours("forward"),
            "seam-carving, forward": theirs("forward"),
            "ours, entropy": ours("entropy"),
        }
        for energy, mode in (("gradient", "backward"), ("forward", "forward")):
            if not np.array_equal(ours(energy)()[0], theirs(mode)()):
                raise SystemExit(f"{side} to {target}, {energy}: not equal to seam-carving")
        times = rotate(candidates, rounds)
        print(f"\n{side} -> {target}")
        for name, values in times.items():
            print(f"  {name:24s} {1e3 * statistics.median(values):9.3f} ms")
        gradient = times["ours, gradient"]
        print(
            f"  seam-carving / ours, gradient {ratios(times['seam-carving, gradient'], gradient)}"
        )
        forward = times["ours, forward"]
        print(f"  seam-carving / ours, forward  {ratios(times['seam-carving, forward'], forward)}")
        print(f"  ours / floor, float32         {ratios(gradient, times['floor, float32'])}")
        print(f"  ours / floor, 16 bits         {ratios(gradient, times['floor, 16 bits'])}")


def scale(rounds: int) -> None:
    """Print what a second core brings."""
    print("\nbatches, two threads against one")
    for side, target, count in ((64, 32, 512), (256, 32, 16)):
        images = np.stack([np.roll(photo(side), shift, axis=1) for shift in range(count)])

        def run(threads: int, images: Photo = images, target: int = target) -> Callable[[], object]:
            return lambda: carve(images, height=target, width=target, threads=threads)

        times = rotate({"one": run(1), "two": run(2)}, rounds)
        rate = count / statistics.median(times["two"])
        print(
            f"  {count} x {side} -> {target}: {ratios(times['one'], times['two'])}"
            f"   {rate:.0f} images/s on two"
        )


def follow(rounds: int) -> None:
    """Print what candidates of a pixel attack gain by being carved along with each other."""
    print("\n64 candidates of a pixel attack, 64 -> 32 by entropy, one thread, against 64 photos")
    random = np.random.default_rng(0)
    for pixels in (1, 3, 5):
        images = np.repeat(photo(64)[None], 64, axis=0)
        for image in images:
            rows, columns = random.integers(0, 64, (2, pixels))
            image[rows, columns] = random.normal(128, 127, (pixels, 3)).clip(0, 255)

        unlike = np.stack([np.roll(image, shift, axis=1) for shift, image in enumerate(images)])

        def run(batch: Photo) -> Callable[[], object]:
            return lambda: carve(batch, height=32, width=32, energy="entropy")

        times = rotate({"unlike": run(unlike), "alike": run(images)}, rounds)
        each = 1e6 * statistics.median(times["alike"]) / len(images)
        print(f"  {pixels} px: {ratios(times['unlike'], times['alike'])}   {each:.0f} us each")


def plot(path: Path, rounds: int) -> None:
    """Draw the cost of halving both sides against the side."""
    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    lines: dict[str, list[float]] = {}
    for side in SIDES:
        image, half = photo(side), side // 2
        candidates: dict[str, Callable[[], object]] = {
            f"Bauta, {energy}": (
                lambda energy=energy, image=image, half=half: carve(
                    image[None], height=half, width=half, energy=energy
                )
            )
            for energy in ("gradient", "forward", "entropy")
        }
        candidates["seam-carving 1.1.0, gradient"] = lambda image=image, half=half: peer.resize(
            image, (half, half)
        )
        candidates["recurrence alone, float32"] = floors(side, half)["floor, float32"]
        for name, values in rotate(candidates, rounds).items():
            lines.setdefault(name, []).append(1e3 * statistics.median(values))
    for name, values in lines.items():
        axes.loglog(SIDES, values, marker="o", label=name)
    axes.set_xticks(SIDES, [str(side) for side in SIDES], minor=False)
    axes.minorticks_off()
    axes.set(xlabel="side, pixels (carved to half)", ylabel="ms an image, one thread")
    axes.legend(fontsize=8)
    axes.grid(visible=True, alpha=0.3)
    figure.savefig(path, dpi=150)
    print(f"\ncost against size: {path}")


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/output"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    carve(photo(64)[None], height=32, width=32)
    print(f"first call (compiling, or loading the cache): {time.perf_counter() - began:.2f} s")
    with threadpool_limits(1):
        compare(arguments.rounds)
        scale(arguments.rounds)
        follow(arguments.rounds)
        plot(arguments.out / "seam_carving.png", max(2, arguments.rounds // 2))


if __name__ == "__main__":
    main()
