"""Frozen networks rebuilt to compute the same sooner, where many gradients are asked for."""

import copy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

Network = TypeVar("Network", bound=nn.Module)


class FrozenPReLU(nn.Module):
    """PReLU (He et al. 2015) whose slopes do not learn.

    PyTorch's own computes the gradient of the slopes at every pixel, whether it is wanted or not:
    on a CPU that takes three times as long.
    """

    slopes: Tensor

    def __init__(self, slopes: Tensor) -> None:
        super().__init__()
        self.register_buffer("slopes", slopes.detach().clone())

    def forward(self, maps: Tensor) -> Tensor:
        slopes = self.slopes.view(1, -1, *(1 for _ in maps.shape[2:]))
        return torch.addcmul(functional.relu(maps) * (1 - slopes), maps, slopes)


def quickened(network: Network) -> Network:
    """Return a frozen copy of a network in ``eval()``: the same outputs, but for rounding.

    Batch normalizations are folded into the convolutions right before them, and PReLUs lose the
    gradient of their slopes. Raises ``ValueError`` for a network in training.
    """
    if network.training:
        raise ValueError("a network that learns cannot be rebuilt: call eval() first")
    quick = copy.deepcopy(network)
    for part in [part for part in quick.modules() if type(part).forward is nn.Sequential.forward]:
        _fold(part)
    for name, part in list(quick.named_modules()):
        if isinstance(part, nn.PReLU):
            quick.set_submodule(name, FrozenPReLU(part.weight))
    return quick.requires_grad_(False).to(memory_format=torch.channels_last)


def with_bf16_weights(network: Network) -> Network:
    """Return a frozen copy to be asked under autocast to bfloat16: its weights are converted once.

    Autocast itself converts the weights of a frozen network again at each forward pass.
    """
    quick = copy.deepcopy(network).requires_grad_(False)
    for part in quick.modules():
        if type(part) in (nn.Conv2d, nn.Linear, FrozenPReLU):
            part.to(torch.bfloat16)
    return quick


def has_fast_bf16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16 faster than in float32, instead of emulating it.

    A processor that could does not where oneDNN is kept from it (``ONEDNN_MAX_CPU_ISA``).
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities()
    native = bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return native and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _fold(sequence: nn.Module) -> None:
    """Fold within a sequence: what its convolution returns goes nowhere else."""
    for (name, convolution), (after, normalization) in pairwise(list(sequence.named_children())):
        if isinstance(convolution, nn.Conv2d) and isinstance(normalization, nn.BatchNorm2d):
            sequence.set_submodule(name, fuse_conv_bn_eval(convolution, normalization))
            sequence.set_submodule(after, nn.Identity())
