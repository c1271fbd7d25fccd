"""What each defense costs an image, and what two of them cost their peers.

``python -m benchmarks.defenses [--rounds 7]``

Candidates take turns on the same batch, on one thread; the peer of the median filter is OpenCV
called on ready arrays (the floor: no conversion from tensors), that of total variation is
scikit-image.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch
from skimage.restoration import denoise_tv_chambolle

from benchmarks.seam_carving import photo, ratios, rotate
from services.worker.defenses.filters import MedianFilter
from services.worker.defenses.pixels import from_bytes, to_bytes
from services.worker.defenses.registry import DEFENSES, build_defense
from services.worker.defenses.smoothing import Smoothing
from services.worker.defenses.total_variation import TotalVariation
from services.worker.models.architectures import build

BATCH = 64
SIDES = (32, 112)


def pictures(side: int) -> torch.Tensor:
    """Return a batch of shifted copies of scikit-image's astronaut."""
    image = photo(side)
    batch = np.stack([np.roll(image, shift, axis=1) for shift in range(BATCH)])
    return from_bytes(batch, torch.empty(0))


def costs(side: int, rounds: int) -> None:
    """Print microseconds an image of every defense."""
    images = pictures(side)
    classifier = build("cnn", classes=("with_mask", "without_mask"), input_size=side).eval()
    candidates: dict[str, Callable[[], object]] = {}
    for name in DEFENSES:
        sizes = {"height": side // 2, "width": side // 2} if name == "seam_carving" else {}
        defense = build_defense(name, classifier=classifier, **sizes)
        candidates[name] = partial(defense.apply, images)
    smoothing = Smoothing(classifier)
    with torch.inference_mode():
        candidates["smoothing, 100 + 1000 draws"] = partial(smoothing.certify, images[0])
        print(f"\n{side}x{side}, a batch of {BATCH}, one thread")
        for name, values in rotate(candidates, rounds).items():
            images_a_call = 1 if name.startswith("smoothing") else BATCH
            print(f"  {name:28s} {1e6 * statistics.median(values) / images_a_call:10.1f} µs")


def peers(side: int, rounds: int) -> None:
    """Print the ratios to OpenCV and scikit-image."""
    images = pictures(side)
    arrays, floats = to_bytes(images), images.numpy()
    times = rotate(
        {
            "median": partial(MedianFilter().apply, images),
            "opencv": lambda: [cv2.medianBlur(array, 3) for array in arrays],
            "tv": partial(TotalVariation(weight=0.05, iterations=50).apply, images),
            "skimage": lambda: [
                denoise_tv_chambolle(array, weight=0.05, eps=0, max_num_iter=50, channel_axis=0)
                for array in floats
            ],
        },
        rounds,
    )
    print(f"  median: ours / OpenCV on ready arrays {ratios(times['median'], times['opencv'])}")
    print(f"  tv:     scikit-image / ours           {ratios(times['skimage'], times['tv'])}")


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for side in SIDES:
        costs(side, rounds)
        peers(side, rounds)


if __name__ == "__main__":
    main()
