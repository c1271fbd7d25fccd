"""Computes convolutions of maps smaller than their kernels as matrix products.

The last stages of a ResNet at 32x32 convolve maps of 2x2 and 1x1: most of the kernel meets padding,
and convolutions are written for large maps.
"""

import copy
from itertools import product

import torch
from torch import Tensor, nn

from services.worker.models.optimized.fold_batch_norm import is_same

MOST_ENTRIES = 2**23  # of a matrix


class ProductConv(nn.Module):
    """A convolution of maps of one size ``(C, h, w)``, padded with zeros, as the matrix that it is.

    Maps of another size go through the convolution itself.
    """

    def __init__(self, convolution: nn.Conv2d, shape: torch.Size) -> None:
        super().__init__()
        self.convolution, self.shape = convolution, shape
        with torch.no_grad():
            blank = torch.zeros(1, *shape, dtype=convolution.weight.dtype)
            offset = convolution(blank.to(convolution.weight.device))
            self.made = offset.shape[1:]
            # Its own weights are made below: filling them at random would take longer.
            self.product = nn.Linear(shape.numel(), self.made.numel(), device="meta")
            self.product.weight = nn.Parameter(_matrix(convolution, shape, self.made))
            self.product.bias = nn.Parameter(_rows(offset)[0].clone())

    def forward(self, maps: Tensor) -> Tensor:
        if maps.shape[1:] != self.shape:
            convolved: Tensor = self.convolution(maps)
            return convolved
        channels, height, width = self.made
        multiplied: Tensor = self.product(_rows(maps))
        return multiplied.view(-1, height, width, channels).permute(0, 3, 1, 2)


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
        is_small = shape[1:].numel() < height * width
        is_plain = module.groups == 1 and module.padding_mode == "zeros"
        is_plain &= not isinstance(module.padding, str)
        if is_small and is_plain and shape.numel() * made.shape[1:].numel() <= MOST_ENTRIES:
            shapes[names[module]] = shape

    hooks = [module.register_forward_hook(look) for module in names]
    try:
        logits = model(example)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes, logits


def _matrix(convolution: nn.Conv2d, shape: torch.Size, made: torch.Size) -> Tensor:
    """Return what each pixel in gives to each pixel out: channels last on both sides."""
    weight = convolution.weight
    (channels, height, width), (filters, rows, columns) = shape, made
    blocks = weight.new_zeros(rows, columns, filters, height, width, channels)
    (tall, wide), (down, right) = convolution.kernel_size, convolution.stride
    above, before = (int(side) for side in convolution.padding)
    for row, column, tap, other in product(range(rows), range(columns), range(tall), range(wide)):
        y = row * down + tap * convolution.dilation[0] - above
        x = column * right + other * convolution.dilation[1] - before
        if 0 <= y < height and 0 <= x < width:
            blocks[row, column, :, y, x] = weight[:, :, tap, other]
    return blocks.view(made.numel(), shape.numel())


def _rows(maps: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1).flatten(1)
