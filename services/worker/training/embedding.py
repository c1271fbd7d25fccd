"""Trains face recognizers: from people's labels alone, or as the student of another recognizer."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from services.worker.faces.alignment import FRAME
from services.worker.models.recognizers import Recognizer
from services.worker.training.augment import Augmentation, augment

# Faces are changed at this size, so that a turned or shifted crop shows no border.
WORKING = 128
AVERAGED = 0.998  # of the weights' running mean, which is what stays (Tarvainen and Valpola 2017)
LEAST_AVERAGED = 1000  # steps: in a shorter run the first weights would still be in the mean
AUGMENTATION = Augmentation(
    flip=0.5, rotation=8.0, zoom=0.08, shift=0.03, color=0.3, erase=0.3, blur=0.3
)


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig:
    """Settings of a run: AdamW under one cycle of the learning rate (Smith 2018)."""

    epochs: int = 40
    batch_size: int = 64
    max_lr: float = 2e-3
    weight_decay: float = 0.05
    margin: float = 0.3  # of the cosine (CosFace, Wang et al. 2018)
    scale: float = 24.0  # of the cosines in the softmax
    relations: float = 2.0  # weight of the similarities within a batch, in distillation
    seed: int = 0
    bf16: bool = False


EpochProgress = Callable[[int, float, float], None]
"""Receives the epoch, its mean loss and the seconds it took."""


def learn_people(
    recognizer: Recognizer,
    frames: NDArray[np.uint8],
    people: NDArray[np.integer],
    config: EmbeddingConfig,
    *,
    progress: EpochProgress | None = None,
) -> None:
    """Train on labels alone: a softmax over people with a margin on the cosine.

    ``frames`` is uint8 ``(N, 160, 160, 3)``, ``people`` numbers from 0. The layer that tells the
    people of training apart is dropped at the end: the remaining network has no identities.
    """
    torch.manual_seed(config.seed)
    count = int(people.max()) + 1
    dimensions = _dimensions(recognizer)
    centers = nn.Parameter(functional.normalize(torch.randn(count, dimensions)))
    labels = torch.from_numpy(np.asarray(people, dtype=np.int64))

    def loss(embeddings: Tensor, which: Tensor) -> Tensor:
        cosines = embeddings @ functional.normalize(centers).T
        own = functional.one_hot(labels[which], count)
        logits = config.scale * (cosines - config.margin * own)
        return functional.cross_entropy(logits, labels[which], label_smoothing=0.05)

    _train(recognizer, [centers], as_images(frames), loss, config, progress)


def imitate(
    recognizer: Recognizer,
    teacher: Recognizer,
    frames: NDArray[np.uint8],
    config: EmbeddingConfig,
    *,
    progress: EpochProgress | None = None,
) -> None:
    """Train a student to embed changed faces as the teacher embeds the unchanged ones.

    The loss is the distance of each pair of embeddings, and that of the similarities of all faces
    in a batch (relational distillation, Park et al. 2019). No labels are used.
    """
    torch.manual_seed(config.seed)
    images = as_images(frames)
    targets = embed(teacher, images)
    flipped = embed(teacher, images.flip(3))
    aims = functional.normalize(targets + flipped)

    def loss(embeddings: Tensor, which: Tensor) -> Tensor:
        wanted = aims[which]
        apart = (1 - (embeddings * wanted).sum(1)).mean()
        among = (embeddings @ embeddings.T - wanted @ wanted.T).square().mean()
        return apart + config.relations * among

    _train(recognizer, [], images, loss, config, progress)


def as_images(frames: NDArray[np.uint8]) -> Tensor:
    """Return frames ``(N, 160, 160, 3)`` as bytes ``(N, 3, 128, 128)``."""
    margin = (FRAME - WORKING) // 2
    inner = frames[:, margin : margin + WORKING, margin : margin + WORKING]
    return torch.from_numpy(np.ascontiguousarray(inner.transpose(0, 3, 1, 2)))


@torch.inference_mode()
def embed(recognizer: Recognizer, images: Tensor, *, batch_size: int = 64) -> Tensor:
    """Embed bytes ``(N, 3, F, F)``; unit vectors ``(N, D)`` on the CPU."""
    was_training = recognizer.training
    recognizer.eval()
    device = recognizer.device
    parts = [
        recognizer.of_frames(_floats(part.to(device))).cpu() for part in images.split(batch_size)
    ]
    recognizer.train(was_training)
    return torch.cat(parts).clone() if parts else torch.empty(0, _dimensions(recognizer))


def _floats(images: Tensor) -> Tensor:
    return (images.float() / 255).contiguous(memory_format=torch.channels_last)


def _train(
    recognizer: Recognizer,
    extra: list[nn.Parameter],
    images: Tensor,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    config: EmbeddingConfig,
    progress: EpochProgress | None,
) -> None:
    generator = torch.Generator().manual_seed(config.seed)
    recognizer.train().to(memory_format=torch.channels_last)
    decayed = [p for p in recognizer.parameters() if p.ndim > 1]
    plain = [p for p in recognizer.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed + extra, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=config.max_lr,
    )
    steps = max(1, len(images) // config.batch_size)
    total = steps * config.epochs
    steady = None
    if total >= LEAST_AVERAGED:
        steady = AveragedModel(
            recognizer.network, multi_avg_fn=get_ema_multi_avg_fn(AVERAGED), use_buffers=True
        )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _cycle(step, total))
    margin = (WORKING - recognizer.input_size[0]) // 2
    for epoch in range(config.epochs):
        start, losses = time.perf_counter(), 0.0
        order = torch.randperm(len(images), generator=generator)
        for which in order[: steps * config.batch_size].split(config.batch_size):
            changed = augment(images[which], AUGMENTATION, generator)
            inner = changed[..., margin : WORKING - margin, margin : WORKING - margin]
            with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
                embeddings = recognizer(inner.contiguous(memory_format=torch.channels_last))
            loss = loss_of(embeddings, which)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(recognizer.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            if steady is not None:
                steady.update_parameters(recognizer.network)
            losses += float(loss.detach())
        if progress is not None:
            progress(epoch, losses / steps, time.perf_counter() - start)
    if steady is not None:
        recognizer.network.load_state_dict(steady.module.state_dict())
    recognizer.eval()


def _cycle(step: int, total: int) -> float:
    """Rise over a tenth of the steps, then fall along a cosine."""
    rise = max(1, total // 10)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, total - rise)))) + 1e-3


def _dimensions(recognizer: Recognizer) -> int:
    network = recognizer.network
    last = getattr(network, "bn", getattr(network, "last_bn", None))
    if last is None:
        raise ValueError("the network does not tell the length of its embeddings")
    return int(last.num_features)
