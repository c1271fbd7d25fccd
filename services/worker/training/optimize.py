"""The optimizer of a training run and its schedule."""

import math
from typing import Literal

import torch
from torch import nn

from services.worker.models.base import Classifier
from services.worker.models.heads import head_of

OptimizerName = Literal["adamw", "sgd"]


def one_cycle(position: float, max_lr: float) -> float:
    """Learning rate at ``position`` in [0, 1]: up over 30 %, then down by cosines (Smith 2018)."""
    warm = 0.3
    low, final = max_lr / 25, max_lr / 1e4
    if position < warm:
        return low + (max_lr - low) * (1 - math.cos(math.pi * position / warm)) / 2
    fall = (position - warm) / (1 - warm)
    return final + (max_lr - final) * (1 + math.cos(math.pi * fall)) / 2


def make_optimizer(
    classifier: Classifier, name: OptimizerName, *, weight_decay: float, backbone_rate: float
) -> torch.optim.Optimizer:
    """Return an optimizer whose backbone learns at ``backbone_rate`` times the head's rate.

    Biases and normalization have no weight decay. Set rates with ``set_rate``.
    """
    parameters = list(classifier.parameters())
    slow: set[int] = set()
    if backbone_rate != 1:
        head = {id(p) for p in head_of(classifier).parameters()}
        slow = {id(p) for p in parameters} - head
    groups = [
        {"params": chosen, "weight_decay": weight_decay if decays else 0.0, "share": share}
        for share, is_slow in ((backbone_rate, True), (1.0, False))
        for decays in (True, False)
        if (
            chosen := [
                p for p in parameters if (id(p) in slow) is is_slow and (p.ndim > 1) is decays
            ]
        )
    ]
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=1e-3, fused=True)
    return torch.optim.SGD(groups, lr=1e-3, momentum=0.9, nesterov=True, fused=True)


def as_laid_out(optimizer: torch.optim.Optimizer) -> None:
    """Lay a loaded state out in memory as its parameters are.

    Fused kernels pair values by their place in memory, and would pair wrong ones without a word.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, requires_grad=False).copy_(value)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the head's learning rate; the backbone's follows."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]


def freeze_backbone(classifier: Classifier, *, frozen: bool) -> None:
    """Let the head alone learn, or everything; a frozen backbone keeps its statistics, too."""
    classifier.train(not frozen)
    classifier.requires_grad_(not frozen)
    if frozen:
        head: nn.Module = head_of(classifier)
        head.train().requires_grad_(True)
