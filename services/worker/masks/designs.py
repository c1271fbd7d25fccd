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
    vectors, and shown are one person's after the other's. Designs that are shown are drawn one by
    one: in a batch, convolutions round by the batch's size, and a design's last bit with it.
    """
    generator.eval()
    device = next(generator.parameters()).device
    drawn = latents(count, torch.Generator().manual_seed(seed))
    if embeddings is None:
        return Designs(_one_by_one(generator, drawn.to(device)))
    known = embeddings

    @torch.inference_mode()
    def own(numbers: Tensor, people: Tensor) -> Tensor:
        joined = conditioned(drawn[numbers], known[people].to(drawn))
        designs: Tensor = generator(joined.to(device)).cpu()
        return designs.clone()

    turn = torch.arange(count) % len(known)
    joined = conditioned(drawn, known[turn].to(drawn))
    return Designs(_one_by_one(generator, joined.to(device)), own)


def _one_by_one(generator: nn.Module, latent: Tensor) -> Tensor:
    """Map vectors ``(N, D)`` to designs ``(N, 3, 128, 128)`` on the CPU, whatever ``N`` alike."""
    return torch.cat([generator(one).cpu().clone() for one in latent.split(1)])
