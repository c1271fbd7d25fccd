"""Trains the face finder: ``python -m research.train.face_finder --help``.

Photos: ``mask_detection/train`` with its boxes (less a share of the photos, held out to choose
by), and portraits of ``faces/train`` and ``mask_classification/train`` with boxes on which two
detectors agree (``python -m research.train.face_boxes``). No test folder is read.

The rate of learning is constant after a warm-up, and falls to nothing over the last ``--decay``
steps, so that a run can be continued from its state: give the same ``--state`` and more
``--steps``. What ships is the running mean of the weights.
"""

import argparse
import copy
import hashlib
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from torchvision.ops import generalized_box_iou_loss

from research.train.face_boxes import load_boxed
from research.train.face_examples import FEWEST, MOST, SIDE, Example, composite, example
from research.train.face_pictures import (
    NO_BOXES,
    FacePhoto,
    faceless,
    hold_out,
    load_labeled,
    load_templates,
    masked,
    recolored,
)
from research.train.face_start import narrowed
from research.train.face_targets import targets
from services.worker.faces.copies import LONGEST_SIDE
from services.worker.faces.crops import Pixels
from services.worker.faces.finder import FINDER
from services.worker.faces.network import FaceNetwork
from services.worker.models.optimized.frozen import has_fast_bf16
from services.worker.models.registry import BUNDLED, write_weights

HELD_OUT = 0.15
EMA = 0.998
SAVED_EVERY = 100


@dataclass(frozen=True, kw_only=True)
class FinderConfig:
    """Settings of a run."""

    steps: int = 3_400
    decay: int = 1_700  # steps, the last ones, over which the rate of learning falls
    warmup: int = 200
    batch_size: int = 16
    max_lr: float = 2e-3
    weight_decay: float = 0.02
    composites: float = 0.33  # share of the examples made of pasted faces
    portraits: float = 0.15  # share of the examples cut from portraits, half of them anywhere
    faceless: float = 0.06  # share of the examples drawn without a face
    empty: float = 0.2  # share of the examples from crowds cut without regard to faces
    grounds: float = 0.5  # share of the composites on a piece of a photo without faces
    masks: float = 0.4  # share of the bare portraits that are there a second time, in a mask
    bf16: bool = False  # multiply in bfloat16
    seed: int = 1


@dataclass(frozen=True)
class Pictures:
    """What examples are made of: crowds with labels, and portraits, bare and masked."""

    labeled: list[FacePhoto]
    bare: list[FacePhoto]
    masked: list[FacePhoto]


def example_of(pictures: Pictures, config: FinderConfig, random: np.random.Generator) -> Example:
    """Make one example: cut from a crowd, pasted, or without a face."""
    kind = random.random()
    if kind < config.faceless:
        ground = recolored(faceless(SIDE, random), random)
        return Example(ground, NO_BOXES, np.empty((0, 5, 2), dtype=np.float32), NO_BOXES)
    kind -= config.faceless
    if pictures.bare and kind < config.portraits:
        worn = pictures.masked and random.random() < 0.35
        portrait = _one(pictures.masked if worn else pictures.bare, random)
        return example(portrait, random, empty=0.5)
    kind -= config.portraits
    if not pictures.bare or kind >= config.composites:
        return example(_one(pictures.labeled, random), random, empty=config.empty)
    pieces = []
    for _ in range(random.integers(FEWEST, MOST + 1)):
        if pictures.masked and random.random() < 0.45:
            pieces.append(_one(pictures.masked, random))
            continue
        pieces.append(_one(pictures.bare, random))
    return composite(pieces, _ground(pictures, config, random), random)


def _ground(pictures: Pictures, config: FinderConfig, random: np.random.Generator) -> Pixels:
    """Return a square without faces: a piece of a crowd's photo, or drawn."""
    for _ in range(4 if random.random() < config.grounds else 0):
        piece = example(_one(pictures.labeled, random), random, empty=1.0)
        # A face reaches into the square where its box does; those left out of sight do no harm.
        low = np.maximum(piece.boxes[:, :2], 0)
        high = np.minimum(piece.boxes[:, 2:], SIDE)
        if not (low < high).all(1).any():
            return piece.pixels
    return faceless(SIDE, random)


def _one(photos: list[FacePhoto], random: np.random.Generator) -> FacePhoto:
    return photos[random.integers(len(photos))]


def loss_of(
    answer: tuple[Tensor, Tensor, Tensor], wanted: tuple[Tensor, Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the focal loss of the heat, the GIoU loss of boxes, and the points' mean error.

    ``wanted`` is what ``targets`` returns, in batches. Points are measured in shares of the box.
    """
    (logits, boxes, points), (heat, counts, box, marks) = answer, wanted
    probability = logits.sigmoid().clamp(1e-5, 1 - 1e-5)
    center = heat == 1
    positive = -((1 - probability) ** 2) * probability.log()
    negative = -((1 - heat) ** 4) * probability**2 * (1 - probability).log()
    focal = (torch.where(center, positive, negative) * counts).sum() / center.sum().clamp(min=1)
    has = ~box[:, 0].isnan()
    if not has.any():
        return focal, boxes.sum() * 0, points.sum() * 0
    given, aim = boxes.permute(0, 2, 3, 1)[has], box.permute(0, 2, 3, 1)[has]
    overlap = generalized_box_iou_loss(given, aim, reduction="mean")
    known = has & ~marks[:, 0].isnan()
    if not known.any():
        return focal, overlap, points.sum() * 0
    near, true = points.permute(0, 2, 3, 1)[known], marks.permute(0, 2, 3, 1)[known]
    size = box.permute(0, 2, 3, 1)[known]
    side = (size[:, 2:] - size[:, :2]).amax(1, keepdim=True)
    return focal, overlap, functional.smooth_l1_loss(near / side, true / side, beta=0.02)


def batch_of(
    pictures: Pictures, config: FinderConfig, random: np.random.Generator
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Return images ``(N, 3, SIDE, SIDE)`` in [0, 1], channels last, and what to learn of them."""
    made = [example_of(pictures, config, random) for _ in range(config.batch_size)]
    images = torch.from_numpy(np.stack([one.pixels for one in made])).permute(0, 3, 1, 2)
    heat, counts, box, marks = (
        torch.from_numpy(np.stack(part))
        for part in zip(
            *(targets(one.boxes, one.points, one.ignored, SIDE) for one in made), strict=True
        )
    )
    return images.float() / 255, (heat, counts, box, marks)


def rate(step: int, config: FinderConfig) -> float:
    """Return the rate of learning at a step, counted from zero."""
    left = (config.steps - step) / max(1, config.decay)
    return config.max_lr * min(1.0, (step + 1) / config.warmup, max(0.01, left))


class Training:
    """A run that can be stopped after any step and continued."""

    def __init__(self, config: FinderConfig, start: dict[str, Tensor] | None = None) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.step = 0
        self.network = FaceNetwork().to(memory_format=torch.channels_last).train()
        if start is not None:
            self.network.load_state_dict(narrowed(start, self.network.state_dict()))
        self.mean = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.max_lr, weight_decay=config.weight_decay
        )

    def advance(self, pictures: Pictures) -> tuple[float, ...]:
        """Take one step; returns the three losses."""
        random = np.random.default_rng([self.config.seed, self.step])
        images, wanted = batch_of(pictures, self.config, random)
        for group in self.optimizer.param_groups:
            group["lr"] = rate(self.step, self.config)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.config.bf16):
            answer = self.network(images)
        losses = loss_of(answer, wanted)
        self.optimizer.zero_grad(set_to_none=True)
        (losses[0] + 2 * losses[1] + 4 * losses[2]).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        self._average(min(EMA, self.step / (self.step + 10)))
        return tuple(float(loss.detach()) for loss in losses)

    @torch.no_grad()
    def _average(self, kept: float) -> None:
        for mean, now in zip(
            self.mean.state_dict().values(), self.network.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - kept)
            else:
                mean.copy_(now)

    def save(self, path: Path) -> None:
        """Write the state, so that a break leaves the old one or the new one."""
        state = {
            "step": self.step,
            "network": self.network.state_dict(),
            "mean": self.mean.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load(self, path: Path) -> None:
        """Continue from a state that ``save`` wrote."""
        state = torch.load(path, weights_only=True)
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.mean.load_state_dict(state["mean"])
        self.optimizer.load_state_dict(state["optimizer"])


def train_finder(
    pictures: Pictures,
    config: FinderConfig,
    *,
    state: Path | None = None,
    start: dict[str, Tensor] | None = None,
) -> FaceNetwork:
    """Train a face network; returns the mean of its weights in ``eval()``.

    A run goes on from ``state`` if that exists; else it starts from the weights ``start`` of an
    earlier finder, or from none.
    """
    run = Training(config, start)
    if state is not None and state.exists():
        run.load(state)
    sums, began = np.zeros(3), time.monotonic()
    for done in range(1, config.steps - run.step + 1):
        sums += 0.02 * (np.array(run.advance(pictures)) - sums)
        if run.step % SAVED_EVERY == 0 or run.step == config.steps:
            took = (time.monotonic() - began) / done
            said = ", ".join(f"{value:.4f}" for value in sums)
            print(f"{run.step}/{config.steps} {said} ({took:.2f} s a step)", file=sys.stderr)
            if state is not None:
                run.save(state)
    return run.mean


def load_pictures(
    data: Path, boxes: Path, *, masks: float = 0.4, seed: int = 1
) -> tuple[Pictures, list[FacePhoto]]:
    """Load what to learn from, and the photos held out."""
    labeled, held = hold_out(load_labeled(data / "mask_detection" / "train"), HELD_OUT, seed=7)
    bare, worn = load_boxed(boxes)
    templates = load_templates(data / "mask_templates")
    random = np.random.default_rng(seed)
    for photo in bare[: round(masks * len(bare))]:
        template = templates[random.integers(len(templates))]
        worn.append(replace(photo, pixels=masked(photo, template, random)))
    return Pictures(labeled, bare, worn), held


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--boxes", type=Path, required=True, help="folder of face_boxes")
    parser.add_argument("--state", type=Path, required=True, help="file to continue from")
    parser.add_argument("--out", type=Path, default=BUNDLED)
    parser.add_argument("--start", type=Path, help="weights of an earlier finder to start from")
    parser.add_argument("--steps", type=int, default=FinderConfig.steps)
    parser.add_argument("--decay", type=int, default=FinderConfig.decay)
    arguments = parser.parse_args()
    config = FinderConfig(
        steps=arguments.steps, decay=arguments.decay, bf16=has_fast_bf16(torch.device("cpu"))
    )
    pictures, _ = load_pictures(arguments.data, arguments.boxes, masks=config.masks)
    start = load_file(arguments.start) if arguments.start else None
    network = train_finder(pictures, config, state=arguments.state, start=start)
    write(network, config, pictures, arguments.out)


def write(network: FaceNetwork, config: FinderConfig, pictures: Pictures, root: Path) -> None:
    """Write the weights and their card."""
    digest = hashlib.sha256()
    photos = (*pictures.labeled, *pictures.bare, *pictures.masked)
    for photo in photos:
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
        lineage=(
            "an earlier face-finder and facenet-pytorch MTCNN (boxes and points of the portraits)",
        ),
        training_data={
            "sources": [
                "mask_detection/train (85 % of its photos)",
                "faces/train",
                "mask_classification/train",
                "mask_templates",
            ],
            "photos": [len(pictures.labeled), len(pictures.bare), len(pictures.masked)],
            "boxes": sum(len(photo.boxes) for photo in photos),
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
