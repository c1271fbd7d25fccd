"""Small networks that no library carries."""

from torch import Tensor, nn


class SimpleCNN(nn.Module):
    """The plain convolutional network of the one-pixel paper (Park et al. 2022), for 32x32.

    Three stages of two 3x3 convolutions with batch normalization, then two linear layers.
    """

    def __init__(self, classes: int, *, width: int = 32, size: int = 32) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        stages: list[nn.Module] = []
        channels = 3
        for out in widths:
            stages += [*_convolution(channels, out), *_convolution(out, out), nn.MaxPool2d(2)]
            channels = out
        self.features = nn.Sequential(*stages)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(channels * (size // 8) ** 2, 128),
            nn.ReLU(inplace=True),
            nn.Dropout(0.3),
            nn.Linear(128, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map normalized images ``(N, 3, 32, 32)`` to logits ``(N, C)``."""
        logits: Tensor = self.head(self.features(images))
        return logits


def _convolution(channels: int, out: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, out, 3, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    ]
