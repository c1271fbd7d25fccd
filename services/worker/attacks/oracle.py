"""Asks a classifier for logits and input gradients, and never changes it."""

import operator
from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from services.worker.models.base import Classifier
from services.worker.models.optimized.fold_batch_norm import fold_batch_norm
from services.worker.models.optimized.frozen import with_bf16_weights
from services.worker.models.optimized.small_maps import small_maps_as_products
from services.worker.models.optimized.squeeze_excitation import with_lean_squeezes
from services.worker.stopping import CancelCheck

# Pixels a forward pass: more no longer helps, and a cancel would wait longer.
PIXELS_CPU = 2**16
PIXELS_GPU = 2**26
SMALLEST_BATCH = 16
PIXELS_MOST = 2**22  # of a smallest batch: whole photos are shown one by one

LossOfPart = Callable[[Tensor, slice], Tensor]


class Oracle:
    """A model in ``eval()``, asked in sub-batches, with ``check_cancel`` before each.

    Searching may use a copy with folded batch normalization, small maps' convolutions as matrix
    products and leaner squeeze-and-excitation (``fold``), and ask in bfloat16, for gradients, too
    (``search_bf16``); ``confirm`` always asks the model as it was given, in float32.
    Images are float ``(N, 3, H, W)`` in [0, 1], on the model's device.
    """

    def __init__(
        self,
        model: Classifier,
        example: Tensor,
        *,
        check_cancel: CancelCheck | None = None,
        fold: bool = True,
        search_bf16: bool = False,
    ) -> None:
        if any(module.training for module in model.modules()):
            raise ValueError("the model is in train mode: call eval() before attacking it")
        self._given = model
        self._check_cancel = check_cancel
        self.searches_bf16 = search_bf16
        self.device = device_of(model)
        self._searched = _rebuilt(model, example[:2].to(self.device)) if fold else model
        self._asked = with_bf16_weights(self._searched) if search_bf16 else self._searched
        # A pixel keeps its normalized value, so that normalizing each candidate can be saved.
        self._bare = type(self._searched) is Classifier
        # As large as an image: a loop over three channels, innermost, is several times slower.
        mean, self._std = (_planes(each, example) for each in (model.mean, model.std))
        self._scale, self._shift = 1 / (255 * self._std), -mean / self._std
        height, width = example.shape[2:]
        pixels = PIXELS_CPU if self.device.type == "cpu" else PIXELS_GPU
        fewest = max(1, min(SMALLEST_BATCH, PIXELS_MOST // (height * width)))
        self.batch = max(fewest, pixels // (height * width))

    def parts(self, count: int) -> Iterator[slice]:
        """Cut ``count`` images into sub-batches; a cancel is noticed before each."""
        for start in range(0, count, self.batch):
            if self._check_cancel is not None:
                self._check_cancel()
            yield slice(start, min(start + self.batch, count))

    def logits(self, images: Tensor) -> Tensor:
        """Return float32 logits ``(N, C)`` of the searched model."""
        return self._forward(self._asked, images)

    def confirm(self, images: Tensor) -> Tensor:
        """Return float32 logits ``(N, C)`` of the model exactly as it was given."""
        return self._forward(self._given, images, bf16=False)

    def gradient(self, levels: Tensor, loss: LossOfPart) -> tuple[Tensor, Tensor]:
        """Return logits and the gradient of each image's loss with respect to its pixels in [0, 1].

        ``levels`` are the images in 0..255. ``loss`` maps the logits of a sub-batch and its slice
        to losses ``(n,)``.
        """
        logits, gradients = [], []
        for part in self.parts(len(levels)):
            shown = self.prepare(levels[part]).detach().requires_grad_()
            with torch.enable_grad():
                with self._autocast(self.searches_bf16):
                    asked = self._asked.network if self._bare else self._asked
                    answer = asked(shown).float()
                (gradient,) = torch.autograd.grad(loss(answer, part).sum(), shown)
            logits.append(answer.detach())
            # Passing back through the normalization is a division, and needs no graph.
            gradients.append(gradient.div_(self._std) if self._bare else gradient)
        if len(gradients) == 1:
            return logits[0], gradients[0]
        return torch.cat(logits), torch.cat(gradients)

    def prepare(self, levels: Tensor) -> Tensor:
        """Return what ``prepared_logits`` takes of images in 0..255: normalized where possible."""
        return torch.addcmul(self._shift, levels, self._scale) if self._bare else levels / 255

    def prepare_colors(self, colors: Tensor) -> Tensor:
        """Prepare single pixels ``(..., 3)`` in [0, 1] as ``prepare`` does images."""
        model = self._searched
        return (colors - model.mean.view(3)) / model.std.view(3) if self._bare else colors

    def prepared_logits(self, prepared: Tensor) -> Tensor:
        """Return logits of one sub-batch of prepared images."""
        with torch.inference_mode(), self._autocast(self.searches_bf16):
            network = self._asked.network if self._bare else self._asked
            logits: Tensor = network(prepared)
        return logits.float().clone()

    def _forward(self, model: Classifier, images: Tensor, *, bf16: bool | None = None) -> Tensor:
        wanted = self.searches_bf16 if bf16 is None else bf16
        answers = []
        for part in self.parts(len(images)):
            with torch.inference_mode(), self._autocast(wanted):
                answers.append(model(images[part]).float())
        empty = torch.empty(0, len(model.classes), device=self.device)
        return torch.cat(answers) if answers else empty

    def _autocast(self, enabled: bool) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)


class _Weights:
    """Which tensors a model has and what was last done to them, to notice any change.

    Only what writes into ``tensor.data`` escapes, as it escapes automatic differentiation.
    """

    def __init__(self, model: Classifier) -> None:
        self._tensors = [*model.parameters(), *model.buffers()]
        # Held, so that no other values take their place in memory.
        self._values = [tensor.detach() for tensor in self._tensors]
        self._states = [
            (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
            for tensor in self._tensors
        ]

    def are(self, others: "_Weights") -> bool:
        """Whether both are the same tensors, unchanged in between."""
        same = map(operator.is_, self._tensors, others._tensors)
        return self._states == others._states and all(same)


# Of the last model only: a job asks one model batch by batch, and a copy takes half a step's time.
_copies: WeakKeyDictionary[Classifier, tuple[torch.Size, _Weights, Classifier]]
_copies = WeakKeyDictionary()


def _rebuilt(model: Classifier, shown: Tensor) -> Classifier:
    """Return a copy that computes the same with fewer passes, or the model if there is none."""
    weights = _Weights(model)
    if model in _copies:
        size, held, kept = _copies[model]
        if size == shown.shape[2:] and held.are(weights):
            return kept
    _copies.clear()
    rebuilt: torch.nn.Module = model
    for rebuild in (fold_batch_norm, small_maps_as_products, with_lean_squeezes):
        rebuilt = rebuild(rebuilt, shown)
    if not isinstance(rebuilt, Classifier) or rebuilt is model:
        return model
    _copies[model] = (shown.shape[2:], weights, rebuilt)
    return rebuilt


def _planes(channels: Tensor, example: Tensor) -> Tensor:
    """Spread values of channels ``(1, C, 1, 1)`` over an image of the example's size."""
    spread = channels.expand(1, -1, *example.shape[2:])
    return spread.contiguous(memory_format=torch.channels_last)


def device_of(model: torch.nn.Module) -> torch.device:
    """Return the device of a model's first parameter or buffer (CPU when it has none)."""
    tensor = next(model.parameters(), next(model.buffers(), None))
    return torch.device("cpu") if tensor is None else tensor.device
