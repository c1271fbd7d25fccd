"""Trains the ``cnn`` projector: ``python -m research.train.mask_alpha --help``.

A hundred masked photos of ``mask_segmentation/train``, as in paper 004. Both networks learn twice:
from the photos as they are, where every mask is the same blue, and from the same photos with the
masks recolored and as many bare faces of ``faces/train`` besides, where only shape tells. Test
folders are read for the figures only.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from research.train.masked_photos import (
    MaskedPhotos,
    bare_faces,
    moved,
    read_masked,
    recolored,
)
from services.worker.evaluation.bootstrap import Interval, bootstrap
from services.worker.evaluation.metrics import Rate, wilson
from services.worker.faces.detection import FaceDetector
from services.worker.masks.cnn_projector import (
    LEAST_SHARE,
    NETWORKS,
    SIDE,
    TASK,
    VARIANTS,
    Variant,
    mean_errors,
    model_id,
    predicted_alpha,
)
from services.worker.models.registry import BUNDLED, write_weights
from services.worker.training.loop import one_cycle

EXAMPLES = 100  # as in paper 004
LICENSE = "research and evaluation only; see LICENSE-WEIGHTS.md"
TEST_SEED = 5

Say = Callable[[str], None]
Row = tuple[str, dict[str, Interval]]


@dataclass(frozen=True, kw_only=True)
class AlphaConfig:
    """Settings of a run."""

    epochs: int = 40
    batch_size: int = 10
    max_lr: float = 3e-3
    recolored: float = 0.0  # share of the masks that are shown in other colors and patterns
    bare: int = 0  # faces without a mask among the examples
    moved: bool = False  # photos are shifted and sized at random
    seed: int = 0


# What ships: paper 004's on the photos as they are, and the wide one that knows other masks too.
RECIPES: dict[Variant, AlphaConfig] = {
    "paper": AlphaConfig(),
    "wide": AlphaConfig(epochs=30, recolored=0.75, bare=EXAMPLES, moved=True),
}


# For comparison: each network with what the other one learned from.
OTHERS: dict[Variant, AlphaConfig] = {
    "paper": replace(RECIPES["wide"], epochs=RECIPES["paper"].epochs),
    "wide": replace(RECIPES["paper"], epochs=RECIPES["wide"].epochs),
}


def train_alpha(
    network: nn.Module,
    examples: MaskedPhotos,
    config: AlphaConfig,
    *,
    progress: Callable[[int, float], None] | None = None,
) -> nn.Module:
    """Train by cross-entropy on examples, mirrored at random, and return the network in ``eval()``.

    Paper 004 minimizes the squared error; tried here, it ends alike.
    """
    generator = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.max_lr)
    network.train()
    for epoch in range(config.epochs):
        order = torch.randperm(len(examples.names), generator=generator)
        losses = []
        for part in order.split(config.batch_size):
            photos, alphas = examples.photos[part], examples.alphas[part]
            if torch.rand(1, generator=generator) < 0.5:
                photos, alphas = photos.flip(3), alphas.flip(3)
            if config.moved:
                photos, alphas = moved(photos, alphas, generator)
            shown = torch.rand(len(part), 1, 1, 1, generator=generator) < config.recolored
            if config.recolored:
                photos = torch.where(shown, recolored(photos, alphas, generator), photos)
            for group in optimizer.param_groups:
                group["lr"] = one_cycle((epoch + 0.5) / config.epochs, config.max_lr)
            loss = functional.binary_cross_entropy_with_logits(network(photos), alphas)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        if progress is not None:
            progress(epoch + 1, sum(losses) / len(losses))
    return network.eval()


def fresh(variant: Variant, seed: int) -> nn.Module:
    """Build a network to be trained."""
    torch.manual_seed(seed)
    return NETWORKS[variant]()


def judged(alphas: Tensor, test: MaskedPhotos, name: str) -> dict[str, Interval]:
    """Return the mean absolute error and the IoU at .5, with intervals over photos."""
    errors, overlaps = (np.array(part) for part in mean_errors(alphas, test.alphas))
    found = bootstrap(
        lambda rows: {"error": float(errors[rows].mean()), "iou": float(overlaps[rows].mean())},
        test.names,
    )
    return {f"{name} {figure}": interval for figure, interval in found.items()}


def figures(network: nn.Module | float, test: MaskedPhotos) -> dict[str, Interval]:
    """Judge a network, or one alpha for all pixels, on photos as they are and recolored."""
    other = recolored(test.photos, test.alphas, torch.Generator().manual_seed(TEST_SEED))
    found: dict[str, Interval] = {}
    for name, photos in (("blue", test.photos), ("recolored", other)):
        if isinstance(network, float):
            alphas = torch.full_like(test.alphas, network)
        else:
            alphas = predicted_alpha(network, photos)
        found |= judged(alphas, test, name)
    return found


def seen_on(network: nn.Module, photos: Tensor) -> Rate:
    """Return on how many photos a network sees a mask that somebody wears."""
    alphas = predicted_alpha(network, photos)
    shares = (alphas > 0.5).float().mean((1, 2, 3))
    return wilson(int((shares >= LEAST_SHARE).sum()), len(photos))


def table(rows: Sequence[Row]) -> str:
    """Write figures as Markdown."""
    names = list(rows[0][1])
    lines = ["| projector | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 1)]
    lines += [
        "| " + " | ".join([name, *(str(found[each]) for each in names)]) + " |"
        for name, found in rows
    ]
    return "\n".join(lines)


def write(
    network: nn.Module,
    variant: Variant,
    config: AlphaConfig,
    examples: MaskedPhotos,
    found: dict[str, Interval],
    root: Path,
) -> None:
    """Write the weights and their card."""
    pixels = (255 * torch.cat([examples.photos, examples.alphas], 1)).round().byte()
    write_weights(
        network,
        root,
        half=True,
        id=model_id(variant),
        task=TASK,
        architecture=f"alpha_{variant}",
        classes=("mask",),
        input_size=(SIDE, SIDE),
        crop_margin=0.0,
        license=LICENSE,
        training_data={
            "sources": [
                f"mask_segmentation/train ({EXAMPLES} of its photos)",
                *([f"faces/train (one photo each of {config.bare} people)"] if config.bare else []),
            ],
            "photos": len(examples.names),
            "fingerprint": hashlib.sha256(pixels.numpy().tobytes()).hexdigest(),
        },
        training={
            "script": "python -m research.train.mask_alpha",
            "config": asdict(config),
            "torch": torch.__version__,
        },
        metrics={
            "measured_on": "mask_segmentation/test",
            **{name.replace(" ", "_"): asdict(interval) for name, interval in found.items()},
        },
        default=variant == "wide",
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=BUNDLED)
    parser.add_argument("--only", choices=VARIANTS)
    parser.add_argument("--shipped", action="store_true", help="only what ships, no other rows")
    arguments = parser.parse_args()
    everyone = read_masked(arguments.data / "mask_segmentation" / "train")
    test = read_masked(arguments.data / "mask_segmentation" / "test")
    detector = FaceDetector()
    bare = bare_faces(arguments.data / "faces" / "train", EXAMPLES, detector)
    strangers = bare_faces(arguments.data / "faces" / "test", EXAMPLES, detector)
    drawn = np.random.default_rng(0).permutation(len(everyone.names))[:EXAMPLES]
    examples = everyone.of(sorted(drawn.tolist()))
    seen: dict[str, tuple[Rate, Rate]] = {}
    constant = float(examples.alphas.mean())
    rows: list[Row] = [
        ("no mask anywhere", figures(0.0, test)),
        (f"alpha {constant:.2f} everywhere", figures(constant, test)),
    ]
    for variant in (arguments.only,) if arguments.only else VARIANTS:
        recipe = RECIPES[variant]
        other = OTHERS[variant]
        for config in (recipe,) if arguments.shipped else (recipe, other):
            began = time.monotonic()

            def progress(epoch: int, loss: float, began: float = began) -> None:
                if epoch % 10 == 0:
                    print(
                        f"  {epoch} {loss:.4f} ({time.monotonic() - began:.0f} s)", file=sys.stderr
                    )

            shown = examples.beside(bare.of(range(config.bare)))
            network = train_alpha(fresh(variant, config.seed), shown, config, progress=progress)
            if config is recipe:
                network = network.half().float()  # as it ships
            found = figures(network, test)
            learned = "recolored masks, bare faces" if config.recolored else "blue masks"
            name = f"`{variant}`, learned from {learned}"
            rows.append((name, found))
            seen[name] = (seen_on(network, test.photos), seen_on(network, strangers.photos))
            print(table(rows[-1:]), file=sys.stderr)
            if config is recipe:
                write(network, variant, config, shown, found, arguments.out)
    print(table(rows))
    for name, (worn, none) in seen.items():
        print(f"{name}: sees a mask on {worn} masked photos, on {none} bare faces")


if __name__ == "__main__":
    main()
