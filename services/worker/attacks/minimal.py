"""What the attacks share that look for the smallest L2 perturbation."""

import torch
from torch import Tensor

from services.worker.attacks.scene import Scene


def distances(scene: Scene, levels: Tensor, rows: Tensor | None = None) -> Tensor:
    """Return L2 distances ``(A,)`` from the originals, in units of 1/255."""
    clean = scene.levels if rows is None else scene.levels[rows]
    norms: Tensor = torch.linalg.vector_norm(levels - clean, dim=(1, 2, 3))
    return norms


def offer_smallest(
    scene: Scene, levels: Tensor, margin: Tensor, *, within: float | None = None
) -> None:
    """Offer whole levels; the nearest image that meets the criterion is kept.

    With ``within`` (units of 1/255) only images so near count as successes.
    """
    norm = distances(scene, levels)
    met = margin < 0
    if within is None:
        scene.offer(levels, met, torch.where(met, norm, margin))
        return
    # Without success the nearest image that meets the criterion is still worth most.
    far = torch.where(met, norm, 1e6 + margin)
    scene.offer(levels, met & (norm <= within), far)


def blend(clean: Tensor, levels: Tensor, share: Tensor) -> Tensor:
    """Go the share ``(A,)`` of the way from the originals to ``levels``, in whole levels."""
    return (clean + share[:, None, None, None] * (levels - clean)).round()


def bisect(
    scene: Scene, levels: Tensor, *, rows: Tensor, rounds: int, within: float | None = None
) -> Tensor:
    """Shorten perturbations of the scene's ``rows`` while the criterion stays met.

    ``levels`` ``(len(rows), 3, H, W)`` meet it. Each round is one query an image; the images found
    are offered. Returns the shortest ones that met the criterion.
    """
    clean, criterion = scene.levels[rows], scene.criterion.take(rows)
    low = torch.zeros(len(rows), device=levels.device)
    high = torch.ones_like(low)
    best = levels.clone()
    for _ in range(rounds):
        middle = (low + high) / 2
        candidate = blend(clean, levels, middle)
        met = criterion.margin(scene.ask(candidate, rows)) < 0
        high, low = torch.where(met, middle, high), torch.where(met, low, middle)
        best = torch.where(met[:, None, None, None], candidate, best)
    whole = scene.levels.clone()
    whole[rows] = best
    margin = torch.ones(len(whole), device=levels.device)
    margin[rows] = -1.0
    offered = margin < 0
    norm = distances(scene, whole)
    near = offered if within is None else offered & (norm <= within)
    scene.offer(whole, near, torch.where(offered, norm, float("inf")))
    return best
