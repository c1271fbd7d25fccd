"""Classes of unequal size: drawn equally often, or weighted in the loss."""

import torch
from torch import Tensor


def order(labels: Tensor, generator: torch.Generator, *, balanced: bool) -> Tensor:
    """Return the order of an epoch: a permutation, or with ``balanced`` as many draws with
    replacement in which every class is equally likely."""
    if not balanced:
        return torch.randperm(len(labels), generator=generator)
    counts = torch.bincount(labels).clamp(min=1)
    return torch.multinomial(
        (1.0 / counts)[labels], len(labels), replacement=True, generator=generator
    )


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Return weights ``(C,)`` inverse to the classes' counts; their mean over the labels is 1."""
    counts = torch.bincount(labels, minlength=classes).float()
    present = counts > 0
    weights = torch.zeros(classes)
    weights[present] = len(labels) / (int(present.sum()) * counts[present])
    return weights
