"""Whether seams kept out of what they were to keep out of."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.worker.defenses.seam_carving import Carved
from shared.results.defend import DefendedImage, ProtectedRegion


def protected_regions(
    carved: Carved, weights: NDArray[np.uint16] | None
) -> list[ProtectedRegion | None]:
    """Say for each image how much of the region with weights ``(H, W)`` was carved away.

    ``None`` where nothing was to be protected.
    """
    if weights is None:
        return [None] * len(carved.images)
    region = weights > 0
    inside = np.flatnonzero(region)
    # A vertical seam takes one pixel of each row: at most those that are not protected can go.
    needs = int(region.sum(0).max()), int(region.sum(1).max())
    found: list[ProtectedRegion | None] = []
    for sources in carved.sources:
        lost = 1 - float(np.isin(inside, sources).mean())
        found.append(ProtectedRegion(kept=lost == 0, lost=round(lost, 4), least_size=needs))
    return found


def protection_warnings(images: Sequence[DefendedImage]) -> list[str]:
    """Say where a protection could not be kept, and what size it would take."""
    carved = [
        (step, step.protected)
        for image in images
        for face in image.faces
        for step in face.steps
        if step.protected is not None
    ]
    broken = [(step, region) for step, region in carved if not region.kept]
    if not broken:
        return []
    most = max(region.lost for _, region in broken)
    height = max(region.least_size[0] for _, region in broken)
    width = max(region.least_size[1] for _, region in broken)
    size = broken[0][0].size
    return [
        f"what seams were to keep out of was not kept in {len(broken)} of {len(carved)} carvings: "
        f"up to {most:.0%} of it was carved away. The target of {size[0]} x {size[1]} pixels would "
        f"have to be at least {height} x {width}; or give a smaller `cut_size`"
    ]
