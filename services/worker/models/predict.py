"""A classifier's answers to many images, as training and judging ask for them."""

import torch
from torch import Tensor

from services.worker.models.base import Classifier
from services.worker.stopping import CancelCheck


@torch.inference_mode()
def predict(
    classifier: Classifier,
    images: Tensor,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 128,
    check_cancel: CancelCheck | None = None,
) -> Tensor:
    """Return logits ``(N, C)`` of uint8 images ``(N, 3, S, S)``, on the CPU, in ``eval()``."""
    classifier.eval()
    parts = []
    for batch in images.split(batch_size):
        if check_cancel is not None:
            check_cancel()
        parts.append(classifier(channels_last(as_input(batch.to(device)))).cpu())
    return torch.cat(parts) if parts else torch.empty(0, len(classifier.classes))


def as_input(images: Tensor) -> Tensor:
    """Return what a classifier takes: bytes scaled to [0, 1], floats as they are."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def channels_last(batch: Tensor) -> Tensor:
    """Lay images out as convolutions are fastest at; features stay as they are."""
    return batch.contiguous(memory_format=torch.channels_last) if batch.dim() == 4 else batch


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of labels that the largest logits name."""
    return float((logits.argmax(1) == labels).double().mean())
