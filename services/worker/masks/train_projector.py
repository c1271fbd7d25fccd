"""Trains the ``cnn`` projector: ``python -m services.worker.masks.train_projector --help``.

A hundred masked photos of ``mask_segmentation/train``, as in paper 004; its test photos are read
for the figures only. Both networks learn twice: from the photos as they are, where every mask is
the same blue, and from the same photos with the masks recolored, where only shape tells.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from services.worker.masks.cnn_projector import (
    NETWORKS,
    SIDE,
    TASK,
    VARIANTS,
    Variant,
    mean_errors,
    model_id,
    predicted_alpha,
    put_through,
)
from services.worker.models.registry import BUNDLED, write_weights
from services.worker.training.evaluation.bootstrap import Interval, bootstrap
from services.worker.training.identities import read_photo
from services.worker.training.loop import one_cycle

EXAMPLES = 100  # as in paper 004
MASK = 2  # its number in the label maps
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
    seed: int = 0


# What ships: paper 004's on the photos as they are, and the wide one that knows other masks too.
RECIPES: dict[Variant, AlphaConfig] = {
    "paper": AlphaConfig(),
    "wide": AlphaConfig(epochs=120, recolored=0.75),
}


@dataclass(frozen=True)
class MaskedPhotos:
    """Photos ``(N, 3, 128, 128)`` and how much of each pixel is mask ``(N, 1, ...)``, in [0, 1]."""

    photos: Tensor
    alphas: Tensor
    names: tuple[str, ...]

    def of(self, chosen: Sequence[int]) -> "MaskedPhotos":
        """Return some of the photos."""
        which = list(chosen)
        names = tuple(self.names[number] for number in which)
        return MaskedPhotos(self.photos[which], self.alphas[which], names)


def read_masked(root: Path) -> MaskedPhotos:
    """Read ``images/*.jpg`` and ``labels/*.png``; raises ``ValueError`` where there are none."""
    photos, alphas, names = [], [], []
    for path in sorted((root / "images").glob("*.jpg")):
        with Image.open(root / "labels" / f"{path.stem}.png") as label:
            worn = np.asarray(label) == MASK
        photos.append(_small(Image.fromarray(read_photo(path))))
        alphas.append(_small(Image.fromarray(np.uint8(255) * worn))[:1])
        names.append(path.stem)
    if not names:
        raise ValueError(f"no masked photos in {root}")
    return MaskedPhotos(torch.stack(photos), torch.stack(alphas), tuple(names))


def _small(image: Image.Image) -> Tensor:
    resized = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255


def recolored(photos: Tensor, alphas: Tensor, generator: torch.Generator) -> Tensor:
    """Show the same masks in random colors, every second one in a random pattern."""
    count = len(photos)
    colors = torch.rand(count, 3, 1, 1, generator=generator).expand(-1, -1, 8, 8)
    patterns = torch.rand(count, 3, 8, 8, generator=generator)
    busy = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
    designs = functional.interpolate(torch.where(busy, patterns, colors), 64, mode="bilinear")
    return put_through(photos, designs, alphas)


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
            "sources": [f"mask_segmentation/train ({len(examples.names)} of its photos)"],
            "photos": len(examples.names),
            "fingerprint": hashlib.sha256(pixels.numpy().tobytes()).hexdigest(),
        },
        training={
            "script": "python -m services.worker.masks.train_projector",
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
    parser.add_argument("--shipped", action="store_true", help="only what ships, no other rows")
    arguments = parser.parse_args()
    everyone = read_masked(arguments.data / "mask_segmentation" / "train")
    test = read_masked(arguments.data / "mask_segmentation" / "test")
    drawn = np.random.default_rng(0).permutation(len(everyone.names))[:EXAMPLES]
    examples = everyone.of(sorted(drawn.tolist()))
    constant = float(examples.alphas.mean())
    rows: list[Row] = [
        ("no mask anywhere", figures(0.0, test)),
        (f"alpha {constant:.2f} everywhere", figures(constant, test)),
    ]
    for variant in VARIANTS:
        recipe = RECIPES[variant]
        other = AlphaConfig(epochs=recipe.epochs, recolored=0.0 if recipe.recolored else 0.75)
        for config in (recipe,) if arguments.shipped else (recipe, other):
            began = time.monotonic()

            def progress(epoch: int, loss: float, began: float = began) -> None:
                if epoch % 10 == 0:
                    print(
                        f"  {epoch} {loss:.4f} ({time.monotonic() - began:.0f} s)", file=sys.stderr
                    )

            network = train_alpha(fresh(variant, config.seed), examples, config, progress=progress)
            if config is recipe:
                network = network.half().float()  # as it ships
            found = figures(network, test)
            learned = "recolored masks" if config.recolored else "blue masks"
            rows.append((f"`{variant}`, learned from {learned}", found))
            print(table(rows[-1:]), file=sys.stderr)
            if config is recipe:
                write(network, variant, config, examples, found, arguments.out)
    print(table(rows))


if __name__ == "__main__":
    main()
