"""Computes convolutions of maps smaller than their kernels as matrix products.

The last stages of a ResNet at 32x32 convolve maps of 2x2 and 1x1: most of the kernel meets padding,
and convolutions are written for large maps.
"""

import copy

import torch
from torch import Tensor, nn

from services.worker.attacks.folding import is_same

MOST_ENTRIES = 2**23  # of a matrix


class ProductConv(nn.Module):
    """A convolution of maps of one size ``(C, h, w)`` as the matrix that it is.

    Maps of another size go through the convolution itself.
    """

    def __init__(self, convolution: nn.Conv2d, shape: torch.Size) -> None:
        super().__init__()
        self.convolution, self.shape = convolution, shape
        channels, height, width = shape
        size = channels * height * width
        weight = convolution.weight
        with torch.no_grad():
            # What it makes of each unit map, channels last, is a column of the matrix.
            units = torch.eye(size, dtype=weight.dtype, device=weight.device)
            made = convolution(units.view(size, height, width, channels).permute(0, 3, 1, 2))
            offset = convolution(torch.zeros_like(units[:1]).view(1, *shape))
            self.made = made.shape[1:]
            self.product = nn.Linear(size, self.made.numel())
            self.product.weight = nn.Parameter(_rows(made - offset).T.contiguous())
            self.product.bias = nn.Parameter(_rows(offset)[0])

    def forward(self, maps: Tensor) -> Tensor:
        if maps.shape[1:] != self.shape:
            convolved: Tensor = self.convolution(maps)
            return convolved
        channels, height, width = self.made
        product: Tensor = self.product(_rows(maps))
        return product.view(-1, height, width, channels).permute(0, 3, 1, 2)


def small_maps_as_products(model: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy of a model in ``eval()`` whose convolutions of small maps are matrix products.

    Which maps have fewer pixels than their kernels is observed on ``example`` ``(N, 3, H, W)``.
    When there are none, or the copy's logits differ, the model itself is returned.
    """
    with torch.no_grad():
        shapes, expected = _observe(model, example)
        if not shapes:
            return model
        rebuilt = copy.deepcopy(model)
        for name, shape in shapes.items():
            convolution = rebuilt.get_submodule(name)
            if isinstance(convolution, nn.Conv2d):
                rebuilt.set_submodule(name, ProductConv(convolution, shape))
        same = is_same(rebuilt.eval(), example, expected)
    return rebuilt.requires_grad_(False) if same else model


def _observe(model: nn.Module, example: Tensor) -> tuple[dict[str, torch.Size], Tensor]:
    """Run once; return the maps' shapes of the convolutions worth it by name, and the logits."""
    shapes: dict[str, torch.Size] = {}
    names = {module: name for name, module in model.named_modules() if type(module) is nn.Conv2d}

    def look(module: nn.Conv2d, given: tuple[Tensor, ...], made: Tensor) -> None:
        shape, (height, width) = given[0].shape[1:], module.kernel_size
        is_small = shape[1:].numel() < height * width and module.groups == 1
        if is_small and shape.numel() * made.shape[1:].numel() <= MOST_ENTRIES:
            shapes[names[module]] = shape

    hooks = [module.register_forward_hook(look) for module in names]
    try:
        logits = model(example)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes, logits


def _rows(maps: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1).flatten(1)
