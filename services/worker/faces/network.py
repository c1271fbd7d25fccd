"""A small fully convolutional face finder: one heat map; a box and five points at every cell."""

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 4
# A face's longer side, in pixels of the copy searched, that one pass over it finds well.
SMALLEST, LARGEST = 8.0, 72.0
POINTS = 5


class FaceNetwork(nn.Module):
    """Tells for every cell of 4x4 pixels whether a face is centered there, and where its parts are.

    After CenterNet (Zhou et al. 2019) and FCOS (Tian et al. 2019), with five points as RetinaFace
    (Deng et al. 2020) has them: residual blocks down to 1/16 of the resolution, merged again at
    1/4. About 650,000 weights, most of them where the maps are small.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_layer(3, 16, stride=2), _layer(16, 24, stride=2))
        self.quarter = _Residual(24, 24)
        self.eighth = nn.Sequential(_Residual(24, 64, stride=2), _Residual(64, 64))
        self.sixteenth = nn.Sequential(
            _Residual(64, 96, stride=2), _Residual(96, 96), _Residual(96, 96)
        )
        self.from_sixteenth = nn.Conv2d(96, 64, 1)
        self.merge_eighth = _layer(64, 64)
        self.from_eighth = nn.Conv2d(64, 32, 1)
        self.from_quarter = nn.Conv2d(24, 32, 1)
        self.merge_quarter = _layer(32, 32)
        last = nn.Conv2d(32, 5 + 2 * POINTS, 1)
        self.heads = nn.Sequential(_layer(32, 32), last)
        # So that training does not start by unlearning a face in every cell (Lin et al. 2017).
        last.bias = nn.Parameter(torch.tensor([-4.0] + [0.0] * (4 + 2 * POINTS)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map images ``(N, 3, H, W)`` in [0, 1] to a heat map, boxes and points.

        Sides must be multiples of 16. Returns logits ``(N, H/4, W/4)`` and, in pixels at every
        cell, ``(x0, y0, x1, y1)`` as ``(N, 4, H/4, W/4)`` and five points, ``x, y`` by turns, as
        ``(N, 10, H/4, W/4)``.
        """
        quarter = self.quarter(self.stem(images * 4 - 2))
        eighth = self.eighth(quarter)
        up = _double(self.from_sixteenth(self.sixteenth(eighth)))
        eighth = self.merge_eighth(eighth + up)
        quarter = self.merge_quarter(self.from_quarter(quarter) + _double(self.from_eighth(eighth)))
        out = self.heads(quarter).float()
        boxes = _boxes(out[:, 1:5])
        return out[:, 0], boxes, _points(out[:, 5:], boxes)


def _boxes(sides: Tensor) -> Tensor:
    """Turn logarithms of the distances to the sides into boxes, in pixels."""
    distances = sides.clamp(-4, 4).exp() * 2 * STRIDE
    rows, columns = centers(sides.shape[2], sides.shape[3], sides.device)
    left, top, right, bottom = distances.unbind(1)
    return torch.stack([columns - left, rows - top, columns + right, rows + bottom], 1)


def _points(shares: Tensor, boxes: Tensor) -> Tensor:
    """Turn points given as shares of the box, from its middle, into pixels."""
    low, high = boxes[:, :2], boxes[:, 2:]
    middle, size = (low + high) / 2, high - low
    return middle.repeat(1, POINTS, 1, 1) + shares * size.repeat(1, POINTS, 1, 1)


def centers(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the cells' centers in pixels: rows ``(height, 1)`` and columns ``(1, width)``."""
    rows = (torch.arange(height, device=device) + 0.5) * STRIDE
    columns = (torch.arange(width, device=device) + 0.5) * STRIDE
    return rows[:, None], columns[None, :]


def _double(maps: Tensor) -> Tensor:
    return functional.interpolate(maps, scale_factor=2.0, mode="nearest")


def _layer(channels: int, out: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016)."""

    def __init__(self, channels: int, out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _layer(channels, out, stride=stride),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride), nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, maps: Tensor) -> Tensor:
        return functional.relu(self.body(maps) + self.shortcut(maps))
