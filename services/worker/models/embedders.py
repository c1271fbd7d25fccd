"""Networks that embed aligned faces."""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from services.worker.models import dlib_network

# (expansion, channels, blocks, stride) of the stages of Chen et al. 2018, table 1.
STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


class MobileFaceNet(nn.Module):
    """MobileFaceNet (Chen et al. 2018): inverted residuals, then a learned pooling over 7x7.

    Its parameters have the names of the checkpoint ``mobilefacenet_ms1m.pt``. ``width`` scales the
    channels of the trunk.
    """

    def __init__(self, *, width: float = 1.0, dimensions: int = 128) -> None:
        super().__init__()
        channels = round(64 * width)
        last = round(512 * width)
        self.conv1 = _normalized(3, channels, 3, stride=2, rectifier=nn.ReLU6)
        self.dw_conv = _Separable(channels)
        blocks: list[nn.Module] = []
        for expansion, out, count, stride in STAGES:
            wide = round(out * width)
            for number in range(count):
                step = stride if number == 0 else 1
                blocks.append(_InvertedResidual(channels, wide, expansion, step))
                channels = wide
        self.features = nn.Sequential(*blocks)
        self.conv2 = _normalized(channels, last, 1, rectifier=nn.ReLU6)
        self.gdconv = nn.Sequential(
            OrderedDict(
                depthwise=nn.Conv2d(last, last, 7, groups=last, bias=False),
                bn=nn.BatchNorm2d(last),
            )
        )
        self.conv3 = nn.Conv2d(last, dimensions, 1)
        self.bn = nn.BatchNorm2d(dimensions)

    def forward(self, faces: Tensor) -> Tensor:
        """Map normalized faces ``(N, 3, 112, 112)`` to embeddings ``(N, D)``."""
        maps = self.conv2(self.features(self.dw_conv(self.conv1(faces))))
        return torch.flatten(self.bn(self.conv3(self.gdconv(maps))), 1)


class ResidualEmbedder(nn.Module):
    """A small residual network with 3x3 convolutions and no depthwise ones.

    Pre-activated blocks (He et al. 2016) at 1/2 to 1/16 of the resolution; the last map is read by
    one linear layer, as ArcFace does, so that it knows where on the face a feature lies.
    """

    def __init__(
        self, *, widths: tuple[int, ...] = (32, 64, 128, 192), dimensions: int = 128
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 5, stride=2, padding=2, bias=False)
        blocks: list[nn.Module] = []
        channels = widths[0]
        for width in widths:
            blocks += [_Block(channels, width, stride=2), _Block(width, width)]
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.after = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(0.4)
        self.linear = nn.Linear(channels * 4 * 4, dimensions, bias=False)
        self.bn = nn.BatchNorm1d(dimensions)

    def forward(self, faces: Tensor) -> Tensor:
        """Map normalized faces ``(N, 3, 112, 112)`` to embeddings ``(N, D)``."""
        maps = functional.relu(self.after(self.blocks(self.stem(faces))))
        embedding: Tensor = self.bn(self.linear(self.dropout(torch.flatten(maps, 1))))
        return embedding


class PooledEmbedder(nn.Module):
    """A small residual network (He et al. 2016) with MobileFaceNet's learned pooling at its end.

    Activated after each block and read by a depthwise convolution over the whole last map: other
    blocks and another head than ``ResidualEmbedder``'s.
    """

    def __init__(
        self, *, widths: tuple[int, ...] = (32, 64, 128, 224), dimensions: int = 128
    ) -> None:
        super().__init__()
        self.stem = _normalized(3, widths[0], 3, stride=2, rectifier=nn.ReLU)
        blocks: list[nn.Module] = []
        channels = widths[0]
        for number, width in enumerate(widths):
            blocks += [
                _Bottom(channels, width, stride=2 if number else 1),
                _Bottom(width, width),
            ]
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.Sequential(
            nn.Conv2d(channels, channels, 7, groups=channels, bias=False), nn.BatchNorm2d(channels)
        )
        self.linear = nn.Conv2d(channels, dimensions, 1, bias=False)
        self.bn = nn.BatchNorm2d(dimensions)

    def forward(self, faces: Tensor) -> Tensor:
        """Map normalized faces ``(N, 3, 112, 112)`` to embeddings ``(N, D)``."""
        return torch.flatten(self.bn(self.linear(self.pool(self.blocks(self.stem(faces))))), 1)


class _Separable(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        maps = functional.relu(self.bn1(self.depthwise(maps)), inplace=True)
        out: Tensor = functional.relu(self.bn2(self.pointwise(maps)), inplace=True)
        return out


class _InvertedResidual(nn.Module):
    def __init__(self, channels: int, out: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.shortcut = stride == 1 and channels == out
        self.conv = nn.Sequential(
            _normalized(channels, hidden, 1, rectifier=nn.ReLU),
            _normalized(hidden, hidden, 3, stride=stride, rectifier=nn.ReLU, groups=hidden),
            nn.Conv2d(hidden, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )

    def forward(self, maps: Tensor) -> Tensor:
        changed: Tensor = self.conv(maps)
        return maps + changed if self.shortcut else changed


class _Block(nn.Module):
    """Two 3x3 convolutions, normalized and rectified before each, beside a shortcut."""

    def __init__(self, channels: int, out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.PReLU(out),
            nn.Conv2d(out, out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True),
                nn.Conv2d(channels, out, 1, bias=False),
                nn.BatchNorm2d(out),
            )

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.first(maps) + self.shortcut(maps)
        return out


class _Bottom(nn.Module):
    """Two 3x3 convolutions beside a shortcut, rectified after they meet."""

    def __init__(self, channels: int, out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _normalized(channels, out, 3, stride=stride, rectifier=nn.ReLU),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, maps: Tensor) -> Tensor:
        return functional.relu(self.body(maps) + self.shortcut(maps), inplace=True)


def _normalized(
    channels: int,
    out: int,
    kernel: int,
    *,
    rectifier: type[nn.Module],
    stride: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    padding = kernel // 2
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel, stride=stride, padding=padding, groups=groups, bias=False),
        nn.BatchNorm2d(out),
        rectifier(inplace=True),
    )


_BRANCHES: Mapping[type[nn.Module], str] = {
    _InvertedResidual: "conv",
    _Block: "first",
    _Bottom: "body",
    dlib_network.Block: "body",
}
# By name: facenet-pytorch imports torchvision, which workers start without.
_FACENET_BLOCKS = ("Block35", "Block17", "Block8")


def residual_branch(block: nn.Module) -> str | None:
    """Return the part of a residual block beside its shortcut; ``None`` for other modules."""
    kind = type(block)
    if kind.__module__.startswith("facenet_pytorch.") and kind.__name__ in _FACENET_BLOCKS:
        return "conv2d"
    return _BRANCHES.get(kind)
