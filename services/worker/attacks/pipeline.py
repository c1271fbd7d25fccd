"""Attacks a photo at its own size: what the service does to a photo, as a part of the model."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from services.worker.attacks.criteria import Criterion
from services.worker.attacks.region import Region
from services.worker.models.base import Classifier

SquareArea = tuple[int, int, int]


class PhotoClassifier(Classifier):
    """A classifier of photos ``(N, 3, H, W)`` at their own size: cut, resize, classify.

    ``square`` ``(x, y, side)`` in pixels is cut as ``faces.crops`` does it (the edge is repeated
    where it leaves the photo; None takes the whole photo) and resized to the classifier's input,
    bilinear with antialiasing. On photos of whole levels the result is that of the service's 8-bit
    kernel to the last bit; gradients are those of the same resizing without rounding.

    With ``also``, further squares where the face may be found, the logits are those of the square
    in which ``criterion``, that of the one photo, is met the least: what meets it there meets it in
    all. Raises ``ValueError`` for ``also`` without a criterion.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        height: int,
        width: int,
        square: SquareArea | None = None,
        also: Sequence[SquareArea] = (),
        criterion: Criterion | None = None,
    ) -> None:
        if also and criterion is None:
            raise ValueError("which of several squares is the worst depends on the criterion")
        super().__init__(
            classifier.network,
            architecture=classifier.architecture,
            classes=classifier.classes,
            input_size=(height, width),
            mean=classifier.mean.flatten().tolist(),
            std=classifier.std.flatten().tolist(),
        )
        self._size = classifier.input_size
        self._squares: tuple[SquareArea | None, ...] = (square, *also)
        self.train(classifier.training)
        self.to(classifier.mean.device)
        self._criterion = None if criterion is None else criterion.to(classifier.mean.device)

    def all_logits(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what the classifier sees in the photos."""
        seen = [self._seen(images, square) for square in self._squares]
        if self._criterion is None or len(seen) == 1:
            return super().all_logits(seen[0])
        answers = super().all_logits(torch.cat(seen))
        one = torch.zeros(len(answers[0]), dtype=torch.long, device=images.device)
        margin = self._criterion.take(one).margin(answers[0]).view(len(seen), len(images))
        worst, each = margin.argmax(0), torch.arange(len(images), device=images.device)
        return tuple(
            answer.unflatten(0, (len(seen), len(images)))[worst, each] for answer in answers
        )

    def crop(self, images: Tensor) -> Tensor:
        """Return the classifier's inputs ``(N, 3, h, w)`` in [0, 1]: those of the first square."""
        return self._seen(images, self._squares[0])

    def region(self) -> Region:
        """Return the pixels of one photo that the classifier looks at in the first square."""
        height, width = self.input_size
        if self._squares[0] is None:
            return Region.whole(1, height, width)
        x, y, side = self._squares[0]
        return Region.boxes([(x, y, x + side, y + side)], height=height, width=width)

    def _seen(self, images: Tensor, square: SquareArea | None) -> Tensor:
        crops = self._cut(images, square)
        if crops.shape[2:] == self._size:
            return crops
        smooth = self._resize(crops)
        with torch.no_grad():
            # The 8-bit kernel runs on CPUs only.
            levels = (crops * 255).round().to("cpu", torch.uint8)
            exact = self._resize(levels).to(smooth.device).float() / 255
        return exact + (smooth - smooth.detach())

    def _cut(self, images: Tensor, square: SquareArea | None) -> Tensor:
        if square is None:
            return images
        x, y, side = square
        height, width = images.shape[2:]
        if x >= 0 and y >= 0 and x + side <= width and y + side <= height:
            return images[:, :, y : y + side, x : x + side]
        rows = torch.arange(y, y + side, device=images.device).clamp(0, height - 1)
        columns = torch.arange(x, x + side, device=images.device).clamp(0, width - 1)
        return images.index_select(2, rows).index_select(3, columns)

    def _resize(self, images: Tensor) -> Tensor:
        return functional.interpolate(
            images, self._size, mode="bilinear", antialias=True, align_corners=False
        )
