"""Squeeze-and-excitation (Hu et al. 2018) whose gradient takes fewer passes over the maps."""

import copy
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from services.worker.models.optimized.fold_batch_norm import is_same


class LeanSqueezeExcitation(nn.Module):
    """A squeeze-and-excitation block that computes the same, for frozen networks.

    The maps reach the result along two ways, scaled and averaged. Automatic differentiation
    writes the gradient along each of them out and adds them up; here both are one pass.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.gate = nn.Sequential(block.fc1, block.activation, block.fc2, block.scale_activation)

    def forward(self, maps: Tensor) -> Tensor:
        """Scale each channel of maps ``(N, C, H, W)`` by what all of them average to."""
        if torch.is_grad_enabled():
            excited: Tensor = _Excited.apply(maps, self.gate)
            return excited
        scaled: Tensor = maps * self.gate(_averaged(maps))
        return scaled


class _Excited(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, gate: nn.Module) -> Tensor:
        with torch.enable_grad():
            averages = _averaged(maps.detach()).requires_grad_()
            scale = gate(averages)
        ctx.averages, ctx.scale = averages, scale
        ctx.save_for_backward(maps)
        excited: Tensor = maps * scale.detach()
        return excited

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (maps,) = ctx.saved_tensors
        of_scale = (gradient * maps).sum((2, 3), keepdim=True).to(ctx.scale.dtype)
        (of_averages,) = torch.autograd.grad(ctx.scale, ctx.averages, of_scale, retain_graph=True)
        spread = (of_averages / maps[0, 0].numel()).to(gradient.dtype)
        return torch.addcmul(spread, gradient, ctx.scale.detach().to(gradient.dtype)), None


def with_lean_squeezes(model: nn.Module, example: Tensor) -> nn.Module:
    """Return a frozen copy of a model in ``eval()`` with lean squeeze-and-excitation blocks.

    When there are none, or the copy's logits of ``example`` ``(N, 3, H, W)`` differ, the model
    itself is returned.
    """
    if "torchvision" not in sys.modules:  # then no network has its blocks, and starting is faster
        return model
    from torchvision.ops import SqueezeExcitation  # noqa: PLC0415

    blocks = [name for name, part in model.named_modules() if type(part) is SqueezeExcitation]
    if not blocks:
        return model
    rebuilt = copy.deepcopy(model).requires_grad_(False)
    for name in blocks:
        rebuilt.set_submodule(name, LeanSqueezeExcitation(rebuilt.get_submodule(name)).eval())
    with torch.no_grad():
        same = is_same(rebuilt, example, model(example))
    return rebuilt if same else model


def _averaged(maps: Tensor) -> Tensor:
    return maps.mean((2, 3), keepdim=True)
