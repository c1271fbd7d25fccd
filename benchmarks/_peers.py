"""What the peers of the attacks get to attack."""

import copy

import torch

from services.worker.models.base import Classifier


def as_it_comes(model: Classifier) -> Classifier:
    """Return a copy as networks come from torchvision: not frozen, channels first."""
    plain = copy.deepcopy(model).requires_grad_(True)
    return plain.to(memory_format=torch.contiguous_format)
