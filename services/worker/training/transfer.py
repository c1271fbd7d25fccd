"""Feature extraction: the backbone sees every image once, and a head learns from what it saw."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from services.worker.datasets.labeled import LabeledImages
from services.worker.models.base import Classifier
from services.worker.models.heads import Head, headless
from services.worker.models.predict import as_input, channels_last
from services.worker.stopping import CancelCheck
from services.worker.training.config import TrainConfig
from services.worker.training.history import Trained
from services.worker.training.loop import train

SeenSoFar = Callable[[int, int], None]


def train_head(
    classifier: Classifier,
    data: LabeledImages,
    validation: LabeledImages,
    config: TrainConfig,
    *,
    device: torch.device | str = "cpu",
    check_cancel: CancelCheck | None = None,
    seen: SeenSoFar | None = None,
    **hooks: Any,
) -> Trained:
    """Train the head alone on cached features, and return the whole classifier.

    The backbone sees each training image as it is and, where augmentation flips, mirrored; other
    augmentation does not apply. ``seen`` hears of the images seen so far and of all. ``hooks`` are
    those of ``loop.train``; the features are computed anew when a run is resumed.
    """
    backbone = headless(classifier).to(device).to(memory_format=torch.channels_last)
    mirrored = data.images.flip(3) if config.augmentation.flip else data.images[:0]
    pictures = [data.images, mirrored, validation.images]
    total, done = sum(map(len, pictures)), 0
    kept = []
    for images in pictures:
        parts = []
        for batch in images.split(config.batch_size):
            if check_cancel is not None:
                check_cancel()
            parts.append(_features(backbone, batch, device))
            done += len(batch)
            if seen is not None:
                seen(done, total)
        kept.append(parts)
    held = torch.cat(kept.pop())
    times = 2 if len(mirrored) else 1
    learned = LabeledImages(
        torch.cat([part for parts in kept for part in parts]),
        data.labels.repeat(times),
        data.classes,
        data.groups * times,
    )
    trained = train(
        Head(classifier),
        learned,
        LabeledImages(held, validation.labels, validation.classes, validation.groups),
        replace(config, frozen_epochs=0, backbone_rate=1.0),
        device=device,
        check_cancel=check_cancel,
        **hooks,
    )
    return replace(trained, classifier=classifier.to(device).eval())


@torch.no_grad()
def _features(backbone: Classifier, images: Tensor, device: torch.device | str) -> Tensor:
    features: Tensor = backbone(channels_last(as_input(images.to(device))))
    return features.float().cpu()
