"""Perturbations to train on, so that a classifier withstands them later.

Adversarial training (Goodfellow et al. 2015; Madry et al. 2018; with one step from a random start,
Wong et al. 2020), and images with few changed pixels. Steps, step sizes and bounds are those of
the attacks of this project; the pictures are not rounded to 8 bits and no success is recorded,
which is what makes this path fast.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from services.worker.attacks.ball import lengths, whole_eps
from services.worker.attacks.fgsm import FGSM
from services.worker.attacks.pgd import PGD
from services.worker.models.base import Classifier

# Maps (classifier in any mode, images (N, 3, H, W) in [0, 1], labels, CPU generator) to images.
Perturb = Callable[[Classifier, Tensor, Tensor, torch.Generator], Tensor]


@dataclass(frozen=True, kw_only=True)
class Adversarial:
    """The first ``share`` of each batch is attacked with gradients.

    FGSM starts at random within its bound and steps 1.25 times as far (Wong et al. 2020): from the
    picture itself, networks learn to hide their gradients instead. ``random_start=False`` is the
    original.
    """

    attack: FGSM | PGD
    share: float = 1.0
    random_start: bool = True

    def __call__(
        self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Tensor:
        count = round(self.share * len(images))
        if not count:
            return images
        attacked = self._attacked(classifier, images[:count], labels[:count], generator)
        return torch.cat([attacked, images[count:]]) if count < len(images) else attacked

    def _attacked(
        self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Tensor:
        single = isinstance(self.attack, FGSM)
        step = self.attack.step_length * (1.25 if single and self.random_start else 1) / 255
        moved = self._start(images, generator) if self.random_start else images
        with _judging(classifier):
            for _ in range(self.attack.iterations):
                asked = moved.detach().requires_grad_()
                loss = functional.cross_entropy(classifier(asked), labels, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, asked)
                moved = self._projected(images, moved + self._direction(gradient) * step)
        return moved.detach()

    def _direction(self, gradient: Tensor) -> Tensor:
        if self.attack.norm == "linf":
            return gradient.sign()
        return gradient / lengths(gradient).clamp(min=1e-12)

    def _start(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if self.attack.norm == "linf":
            noise = torch.rand(images.shape, generator=generator).to(images.device) * 2 - 1
            return (images + noise * self._reach).clamp(0, 1)
        noise = torch.randn(images.shape, generator=generator).to(images.device)
        radius = torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device)
        return (images + noise * radius * self._reach / lengths(noise).clamp(min=1e-12)).clamp(0, 1)

    def _projected(self, images: Tensor, moved: Tensor) -> Tensor:
        if self.attack.norm == "linf":
            return moved.clamp(images - self._reach, images + self._reach).clamp(0, 1)
        change = moved - images
        change = change * (self._reach / lengths(change).clamp(min=1e-12)).clamp(max=1)
        return (images + change).clamp(0, 1)

    @property
    def _reach(self) -> float:
        eps = self.attack.eps
        return (whole_eps(eps) if self.attack.norm == "linf" else eps) / 255


@dataclass(frozen=True, kw_only=True)
class FewPixels:
    """In the first ``share`` of each batch, up to ``pixels`` pixels get random colors.

    Half of the colors are corners of the color cube, as successful few-pixel attacks choose them.
    Of ``tries`` such changes the one with the largest loss is kept; 1 asks no model.
    """

    pixels: int
    tries: int = 1
    share: float = 0.5

    def __call__(
        self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Tensor:
        count = round(self.share * len(images))
        if not count:
            return images
        chosen, right = images[:count], labels[:count]
        kept = self._changed(chosen, generator)
        if self.tries > 1:
            kept = self._worst(classifier, chosen, right, kept, generator)
        return torch.cat([kept, images[count:]])

    def _worst(
        self,
        classifier: Classifier,
        images: Tensor,
        labels: Tensor,
        kept: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        with _judging(classifier), torch.no_grad():
            worst = functional.cross_entropy(classifier(kept), labels, reduction="none")
            for _ in range(self.tries - 1):
                other = self._changed(images, generator)
                loss = functional.cross_entropy(classifier(other), labels, reduction="none")
                better = loss > worst
                kept = torch.where(better.view(-1, 1, 1, 1), other, kept)
                worst = torch.where(better, loss, worst)
        return kept

    def _changed(self, images: Tensor, generator: torch.Generator) -> Tensor:
        n, _, height, width = images.shape
        places = torch.randint(height * width, (n, self.pixels), generator=generator)
        colors = torch.rand(n, self.pixels, 3, generator=generator)
        at_corner = torch.rand(n, self.pixels, 1, generator=generator) < 0.5
        colors = torch.where(at_corner, colors.round(), colors).to(images.device)
        changed = images.clone()
        rows, columns = (places // width).to(images.device), (places % width).to(images.device)
        which = torch.arange(n, device=images.device)[:, None].expand(-1, self.pixels)
        changed[which, :, rows, columns] = colors
        return changed


class _judging:
    """Puts a classifier into ``eval()``, all parameters frozen, and afterwards back as it was."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    def __enter__(self) -> None:
        self._training = [module.training for module in self._classifier.modules()]
        self._learning = [p.requires_grad for p in self._classifier.parameters()]
        self._classifier.eval().requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for module, training in zip(self._classifier.modules(), self._training, strict=True):
            module.training = training
        for parameter, learns in zip(self._classifier.parameters(), self._learning, strict=True):
            parameter.requires_grad_(learns)
