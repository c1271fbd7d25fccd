"""dlib's face recognition network, differentiable, and the reader of its file.

King 2017, ``dlib_face_recognition_resnet_model_v1``: the network behind the package
face_recognition, a ResNet (He et al. 2016) of 29 convolutions with half the usual filters.
"""

import struct
from collections import OrderedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

SIDE = 150
MEAN = (122.782 / 255, 117.001 / 255, 104.298 / 255)  # of values in [0, 1]
STD = (256 / 255,) * 3
DIMENSIONS = 128
STEM = 32
# (channels, whether it halves the map) of the residual blocks, in the order of the forward pass.
BLOCKS = (
    *((32, False),) * 3,
    (64, True),
    *((64, False),) * 3,
    (128, True),
    *((128, False),) * 2,
    (256, True),
    *((256, False),) * 2,
    (256, True),
)


class DlibResNet(nn.Module):
    """Maps normalized crops ``(N, 3, 150, 150)`` to embeddings ``(N, 128)``, not of length 1.

    The affine layer after each convolution, fixed once trained, is folded into it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM, 7, stride=2)
        blocks: list[nn.Module] = []
        channels = STEM
        for out, down in BLOCKS:
            blocks.append(Block(channels, out, down=down))
            channels = out
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(channels, DIMENSIONS, bias=False)

    def forward(self, faces: Tensor) -> Tensor:
        maps = functional.max_pool2d(functional.relu(self.stem(faces)), 3, 2)
        embeddings: Tensor = self.linear(self.blocks(maps).mean((2, 3)))
        return embeddings


class Block(nn.Module):
    """Two convolutions beside a shortcut; what differs in size is padded with zeros."""

    def __init__(self, channels: int, out: int, *, down: bool) -> None:
        super().__init__()
        self.down = down
        self.body = nn.Sequential(
            OrderedDict(
                first=nn.Conv2d(channels, out, 3, stride=1 + down, padding=1 - down),
                relu=nn.ReLU(),
                second=nn.Conv2d(out, out, 3, padding=1),
            )
        )

    def forward(self, maps: Tensor) -> Tensor:
        changed: Tensor = self.body(maps)
        shortcut = functional.avg_pool2d(maps, 2) if self.down else maps
        if changed.shape == shortcut.shape:
            return functional.relu(changed + shortcut)
        size = [max(one, other) for one, other in zip(changed.shape, shortcut.shape, strict=True)]
        return functional.relu(_grown(changed, size) + _grown(shortcut, size))


def _grown(maps: Tensor, size: list[int]) -> Tensor:
    """Pad maps with zeros at the right, the bottom and the last channels."""
    missing = [want - have for want, have in zip(size, maps.shape, strict=True)]
    return functional.pad(maps, (0, missing[3], 0, missing[2], 0, missing[1]))


def read_dlib(data: bytes) -> dict[str, Tensor]:
    """Return a ``DlibResNet``'s state from the bytes of dlib's file.

    The file serializes the layers one by one; of each only the parameters matter here: a version,
    four dimensions, float32 values. They are found by the sizes that the network must have, in
    their order. Raises ``ValueError`` for a file that does not hold them.
    """
    blank = DlibResNet().state_dict()
    convolutions = [name for name in blank if blank[name].ndim == 4]
    state: dict[str, Tensor] = {}
    end = 0
    for name in convolutions:
        shape = tuple(blank[name].shape)
        filters = int(np.prod(shape))
        flat, end = _tensor(data, end, (filters + shape[0], 1, 1, 1))
        affine, end = _tensor(data, end, (2 * shape[0], 1, 1, 1))
        gamma, beta = affine[: shape[0]], affine[shape[0] :]
        weight = flat[:filters].reshape(shape) * gamma[:, None, None, None]
        state[name] = torch.from_numpy(weight)
        bias = flat[filters:] * gamma + beta
        state[name.removesuffix("weight") + "bias"] = torch.from_numpy(bias)
    last, _ = _tensor(data, end, (blank["linear.weight"].shape[1], DIMENSIONS, 1, 1))
    weights = last.reshape(-1, DIMENSIONS).T
    state["linear.weight"] = torch.from_numpy(np.ascontiguousarray(weights))
    return state


def _tensor(
    data: bytes, start: int, dimensions: tuple[int, int, int, int]
) -> tuple[NDArray[np.float32], int]:
    """Find the next tensor of these dimensions; returns its values, and where it ends."""
    header = b"\x01\x02" + b"".join(_integer(one) for one in dimensions)
    place = data.find(header, start)
    count = int(np.prod(dimensions))
    begin = place + len(header)
    if place < 0 or begin + 4 * count > len(data):
        raise ValueError(f"no parameters of {dimensions}: not dlib's face recognition network")
    values = np.frombuffer(data, "<f4", count, begin).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("the parameters hold values that are not finite")
    return values, begin + 4 * count


def _integer(value: int) -> bytes:
    """Return a positive integer as dlib writes it: a count of bytes, then these."""
    raw = struct.pack("<Q", value).rstrip(b"\0")
    return bytes([len(raw)]) + raw
