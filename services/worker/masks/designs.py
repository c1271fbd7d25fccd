"""The designs that a generator draws: a few for all wearers, or some for each of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from services.worker.masks.generators import conditioned, latents


@dataclass(frozen=True)
class Designs:
    """``shown`` is ``(K, 3, h, w)`` in [0, 1]; ``own`` draws the same ``K`` for a wearer.

    ``own`` maps numbers of designs and of people, both ``(N,)``, to designs ``(N, 3, h, w)``.
    """

    shown: Tensor
    own: Callable[[Tensor, Tensor], Tensor] | None = None

    def of(self, numbers: Tensor, people: Tensor) -> Tensor:
        """Return a design for each wearer ``(N, 3, h, w)``; ``numbers (N,)`` count round."""
        turn = numbers % len(self.shown)
        return self.shown[turn] if self.own is None else self.own(turn, people)


@torch.inference_mode()
def draw(
    generator: nn.Module, count: int, *, seed: int, embeddings: Tensor | None = None
) -> Designs:
    """Draw designs ``(count, 3, 128, 128)``; same seed, same designs.

    ``embeddings``, ``(P, D)`` of length 1, condition them: each person is drawn the same latent
    vectors, and shown are one person's after the other's.
    """
    generator.eval()
    device = next(generator.parameters()).device
    drawn = latents(count, torch.Generator().manual_seed(seed))
    if embeddings is None:
        return Designs(generator(drawn.to(device)).cpu().clone())
    known = embeddings

    @torch.inference_mode()
    def own(numbers: Tensor, people: Tensor) -> Tensor:
        joined = conditioned(drawn[numbers], known[people].to(drawn))
        designs: Tensor = generator(joined.to(device)).cpu()
        return designs.clone()

    numbers = torch.arange(count)
    return Designs(own(numbers, numbers % len(known)), own)
