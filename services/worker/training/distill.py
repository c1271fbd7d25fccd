"""Soft labels for defensive distillation (Papernot et al. 2016).

A teacher's probabilities at a high temperature are what the student learns, at that temperature
too; it is then used at temperature 1. Its logits, and with them its gradients, saturate. That
stops weak attacks and not strong ones (Carlini and Wagner 2017): judge such a model by attacks
that do not need gradients as well.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from services.worker.models.base import Classifier


@dataclass(frozen=True)
class Teacher:
    """A classifier, in ``eval()`` and frozen, whose probabilities are learned.

    It is asked of each picture as the student sees it, changed by augmentation.
    """

    classifier: Classifier
    temperature: float

    def soft_labels(self, images: Tensor) -> Tensor:
        """Return probabilities ``(N, C)`` at the temperature."""
        with torch.no_grad():
            logits: Tensor = self.classifier(images)
        return (logits.float() / self.temperature).softmax(1)
