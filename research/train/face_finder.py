"""Trains the face finder: ``python -m research.train.face_finder --help``.

Photos: ``mask_detection/train`` with its boxes (less a share of the photos, held out to choose
by), and bare faces of ``faces/train``, boxed by MTCNN. No test folder is read.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from research.measure.classifiers import match
from research.train.face_examples import (
    FacePhoto,
    example,
    hold_out,
    load_labeled,
    load_portraits,
    targets,
)
from services.worker.evaluation.metrics import wilson
from services.worker.faces.detection import FaceDetector
from services.worker.faces.finder import FINDER, LONGEST_SIDE
from services.worker.faces.network import FaceNetwork
from services.worker.models.registry import BUNDLED, write_weights
from services.worker.training.loop import one_cycle

HELD_OUT = 0.15
PORTRAITS = 60


@dataclass(frozen=True, kw_only=True)
class FinderConfig:
    """Settings of a run."""

    steps: int = 800
    batch_size: int = 16
    max_lr: float = 3e-3
    weight_decay: float = 0.01
    portraits: float = 0.2  # share of the examples cut from photos boxed by MTCNN
    empty: float = 0.1  # share of the examples cut without regard to faces
    seed: int = 1


def loss_of(
    logits: Tensor, boxes: Tensor, heat: Tensor, counts: Tensor, learned: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the focal loss of the heat map and the GIoU loss of the boxes (Rezatofighi 2019)."""
    probability = logits.sigmoid().clamp(1e-5, 1 - 1e-5)
    center = heat == 1
    positive = -((1 - probability) ** 2) * probability.log()
    negative = -((1 - heat) ** 4) * probability**2 * (1 - probability).log()
    focal = (torch.where(center, positive, negative) * counts).sum() / center.sum().clamp(min=1)
    has = ~learned[:, 0].isnan()
    if not has.any():
        return focal, boxes.sum() * 0
    given = boxes.permute(0, 2, 3, 1)[has]
    wanted = learned.permute(0, 2, 3, 1)[has]
    return focal, generalized_box_iou_loss(given, wanted, reduction="mean")


def batch_of(
    labeled: list[FacePhoto],
    portraits: list[FacePhoto],
    config: FinderConfig,
    random: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return images, heat, counting cells and boxes of one step."""
    images, made = [], []
    for _ in range(config.batch_size):
        pool = portraits if portraits and random.random() < config.portraits else labeled
        image, boxes = example(pool[random.integers(len(pool))], random, empty=config.empty)
        images.append(image)
        made.append(targets(boxes))
    heat, counts, learned = (torch.stack(part) for part in zip(*made, strict=True))
    return torch.stack(images).float() / 255, heat, counts, learned


def train_finder(
    labeled: list[FacePhoto],
    portraits: list[FacePhoto],
    config: FinderConfig,
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> FaceNetwork:
    """Train a face network from scratch and return it in ``eval()``."""
    torch.manual_seed(config.seed)
    network = FaceNetwork().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.max_lr, weight_decay=config.weight_decay
    )
    sums = [0.0, 0.0]
    for step in range(config.steps):
        random = np.random.default_rng([config.seed, step])
        images, heat, counts, learned = batch_of(labeled, portraits, config, random)
        for group in optimizer.param_groups:
            group["lr"] = one_cycle(step / config.steps, config.max_lr)
        logits, boxes = network(images.contiguous(memory_format=torch.channels_last))
        focal, overlap = loss_of(logits, boxes, heat, counts, learned)
        optimizer.zero_grad(set_to_none=True)
        (focal + 2 * overlap).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        sums = [
            0.95 * s + 0.05 * float(v.detach()) for s, v in zip(sums, (focal, overlap), strict=True)
        ]
        if progress is not None:
            progress(step + 1, config.steps, f"heat {sums[0]:.3f}, boxes {sums[1]:.3f}")
    return network.eval()


def judge_held_out(held: list[FacePhoto]) -> dict[str, object]:
    """Return recall and precision of the bundled face finder on held-out photos."""
    detector = FaceDetector()
    hits = finds = 0
    for photo in held:
        found = detector.detect(photo.pixels)
        labeled = [(x0, y0, x1, y1) for x0, y0, x1, y1 in photo.boxes.tolist()]
        hits += sum(face is not None for face in match(labeled, found))
        finds += len(found)
    recall = wilson(hits, sum(len(photo.boxes) for photo in held))
    return {"recall": asdict(recall), "precision": asdict(wilson(hits, max(hits, finds)))}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=BUNDLED)
    parser.add_argument("--steps", type=int, default=FinderConfig.steps)
    arguments = parser.parse_args()
    config = FinderConfig(steps=arguments.steps)
    labeled, held = hold_out(
        load_labeled(arguments.data / "mask_detection" / "train"), HELD_OUT, seed=7
    )
    portraits = load_portraits(arguments.data / "faces" / "train", most=PORTRAITS)
    began = time.monotonic()

    def progress(done: int, total: int, message: str) -> None:
        if done % 20 == 0:
            print(f"{done}/{total} {message} ({time.monotonic() - began:.0f} s)", file=sys.stderr)

    network = train_finder(labeled, portraits, config, progress=progress)
    write(network, config, labeled, portraits, arguments.out)
    if arguments.out == BUNDLED:
        print(judge_held_out(held), file=sys.stderr)


def write(
    network: FaceNetwork,
    config: FinderConfig,
    labeled: list[FacePhoto],
    portraits: list[FacePhoto],
    root: Path,
) -> None:
    """Write the weights and their card."""
    digest = hashlib.sha256()
    for photo in (*labeled, *portraits):
        digest.update(photo.pixels.tobytes())
        digest.update(photo.boxes.tobytes())
    write_weights(
        network,
        root,
        half=True,
        id=FINDER,
        task="faces",
        architecture="face_network",
        classes=("face",),
        input_size=(LONGEST_SIDE, LONGEST_SIDE),
        crop_margin=0.0,
        license="research and evaluation only; see LICENSE-WEIGHTS.md",
        lineage=("facenet-pytorch MTCNN (boxes of the bare portraits)",),
        training_data={
            "sources": [
                "mask_detection/train (85 % of its photos)",
                "faces/train (one photo each of some people)",
            ],
            "photos": [len(labeled), len(portraits)],
            "boxes": sum(len(photo.boxes) for photo in (*labeled, *portraits)),
            "fingerprint": digest.hexdigest(),
        },
        training={
            "script": f"python -m research.train.face_finder --steps {config.steps}",
            "config": asdict(config),
            "torch": torch.__version__,
        },
        default=True,
    )


if __name__ == "__main__":
    main()
