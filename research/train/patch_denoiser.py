"""Trains the denoiser that ships with the patch denoiser.

    python -m research.train.patch_denoiser ../shared/data/mask_classification/train

Reads every JPEG below the folder, at 32 and at 64 pixels a side (as four quarters), and writes
``patch_denoiser.safetensors`` beside this module.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from services.worker.defenses.patch_denoiser import WEIGHTS, save_denoiser, train_denoiser
from services.worker.defenses.pixels import from_bytes

SIDE = 32


def load_patches(folder: Path) -> torch.Tensor:
    """Return 32x32 images ``(5 N, 3, 32, 32)`` of the N photos below ``folder``."""
    patches = []
    for path in sorted(folder.rglob("*.jpg")):
        with Image.open(path) as photo:
            color = photo.convert("RGB")
            patches.append(np.asarray(color.resize((SIDE, SIDE), Image.Resampling.BOX)))
            large = np.asarray(color.resize((2 * SIDE, 2 * SIDE), Image.Resampling.BOX))
        for row in (0, SIDE):
            patches += [large[row : row + SIDE, :SIDE], large[row : row + SIDE, SIDE:]]
    return from_bytes(np.stack(patches), torch.empty(0))


def _print(done: int, total: int, message: str) -> None:
    if done % 100 == 0:
        print(f"{message}: {done} of {total} steps", flush=True)


def main(arguments: list[str]) -> None:
    """Train on the folder named and write the weights."""
    (folder,) = arguments
    network = train_denoiser(load_patches(Path(folder)), progress=_print)
    save_denoiser(network, WEIGHTS)


if __name__ == "__main__":
    main(sys.argv[1:])
