"""What a job would need of memory, before it is taken; see ``runtime.memory.require``."""

from typing import Any

import torch
from torch import Tensor, nn

from services.worker.runtime.memory import require

FLOAT_BYTES = 4
PICTURE_COPIES = 2  # pictures are read one by one and then put together


def require_pictures(count: int, side: int) -> None:
    """Raise ``too-much-memory`` for more 8-bit pictures ``(3, side, side)`` than a job may hold."""
    require(PICTURE_COPIES * count * 3 * side**2, f"{count:,} pictures of {side} x {side} pixels")


def require_batch(network: nn.Module, size: tuple[int, int], batch: int, what: str) -> None:
    """Raise ``too-much-memory`` where ``batch`` pictures at once are too many to learn from.

    ``size`` is height and width. The gradient of a batch needs what each layer returned: that is
    counted on one picture, with the network as it is.
    """
    needed = batch * kept_floats(network, size) * FLOAT_BYTES
    require(needed, f"a batch of {batch:,} {what} of {size[1]} x {size[0]} pixels")


@torch.no_grad()
def kept_floats(network: nn.Module, size: tuple[int, int]) -> int:
    """Return how many numbers the layers of a network return for one picture ``(3, H, W)``."""
    total = 0

    def count(_module: nn.Module, _given: Any, returned: Any) -> None:
        nonlocal total
        total += returned.numel() if isinstance(returned, Tensor) else 0

    leaves = [module for module in network.modules() if not any(True for _ in module.children())]
    hooks = [leaf.register_forward_hook(count) for leaf in leaves]
    weight = next(network.parameters(), torch.empty(0))
    was_training = network.training
    try:
        network.eval()(torch.zeros(1, 3, *size, device=weight.device, dtype=weight.dtype))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return total
