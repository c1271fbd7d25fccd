"""The wrapper around every classifier: [0, 1] RGB in, logits out."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Classifier(nn.Module):
    """A network with its normalization, class names and input size.

    ``forward`` takes float images ``(N, 3, H, W)``, RGB in [0, 1], at ``input_size`` (height,
    width), and returns logits ``(N, C)`` in the order of ``classes``. Normalization is inside, so
    that a gradient with respect to the input is one with respect to the picture.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        architecture: str,
        classes: Sequence[str],
        input_size: tuple[int, int],
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        if len(classes) < 2 or len(set(classes)) != len(classes):
            raise ValueError("a classifier needs at least two distinct class names")
        self.network = network
        self.architecture = architecture
        self.classes = tuple(classes)
        self.input_size = input_size
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.all_logits(images)[0]

    def all_logits(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the logits, then those of the auxiliary heads.

        Inception and GoogLeNet have such heads in training mode; elsewhere there are none.
        """
        output = self.network((images - self.mean) / self.std)
        if isinstance(output, Tensor):
            return (output,)
        return tuple(part for part in output if part is not None)
