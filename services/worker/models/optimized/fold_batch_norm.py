"""Folds batch normalization into the convolution before it: the same function, fewer passes."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

TOLERANCE = 1e-3  # of the largest logit; rounding differs, since the products are regrouped


def fold_batch_norm(model: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy of a model in ``eval()`` with its batch normalizations folded.

    Which convolution feeds which normalization is observed on ``example`` ``(N, 3, H, W)``. When
    the copy's logits differ from the model's (a convolution also feeds something else), or there
    is nothing to fold, the model itself is returned.
    """
    with torch.no_grad():
        pairs, expected = _observe(model, example)
        if not pairs:
            return model
        folded = copy.deepcopy(model)
        for convolution, normalization in pairs:
            _fold(folded, convolution, normalization)
        same = is_same(folded, example, expected)
    return folded.requires_grad_(False) if same else model


def is_same(model: nn.Module, example: Tensor, expected: Tensor) -> bool:
    """Tell whether a rebuilt model's logits of ``example`` are those expected, but for rounding."""
    difference = (model(example) - expected).abs().max()
    return bool(difference <= TOLERANCE * expected.abs().max().clamp(min=1))


def _observe(model: nn.Module, example: Tensor) -> tuple[list[tuple[str, str]], Tensor]:
    """Run once; return (convolution, normalization) names and the logits."""
    made: dict[int, tuple[str, Tensor]] = {}
    calls: dict[str, int] = {}
    pairs: list[tuple[str, str]] = []
    hooks = []

    def after(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            del module, inputs
            calls[name] = calls.get(name, 0) + 1
            made[id(output)] = (name, output)  # the tensor is held so that its id stays its own

        return hook

    def before(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            del module
            calls[name] = calls.get(name, 0) + 1
            if id(inputs[0]) in made:
                pairs.append((made[id(inputs[0])][0], name))

        return hook

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(after(name)))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            hooks.append(module.register_forward_pre_hook(before(name)))
    try:
        logits = model(example)
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1], logits


def _fold(model: nn.Module, convolution: str, normalization: str) -> None:
    conv, norm = model.get_submodule(convolution), model.get_submodule(normalization)
    if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
        raise TypeError(f"{convolution} and {normalization} are not what was observed")
    if norm.running_mean is None or norm.running_var is None:
        return
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    model.set_submodule(normalization, nn.Identity())
