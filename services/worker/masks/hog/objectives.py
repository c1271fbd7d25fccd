"""What a pattern is to achieve: many false faces, or that the wearer's own is not found."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.worker.masks.hog.detector import MAX_SIDE, WINDOW, Picture, detect
from services.worker.masks.hog.placing import LowerFace, Place
from services.worker.masks.hog.wearers import Wearer, find_wearers, sized_to, wearer_score

# Scores from here up count, so that a face in the making is seen to grow, and a hidden one hides
# well. Noise has windows of about -1.4; looking further down costs time.
FLOOR = -2.0
SHARPNESS = 3.0


@dataclass(frozen=True)
class Rating:
    """How good a pattern is.

    ``fitness`` is smooth and to be maximized. ``found`` counts the faces above dlib's threshold:
    the decoys, or the views in which the wearer is still found; ``scores`` has one score a decoy,
    best first, or one a view. ``rank`` orders what is kept as the best.
    """

    fitness: float
    found: int
    scores: tuple[float, ...]
    rank: tuple[float, float]


class Objective(Protocol):
    """Rates pictures. It is pickled when several processes work on it."""

    def rate(self, picture: Picture) -> Rating:
        """Rate a pattern, uint8 ``(H, W, 3)``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Decoys:
    """As many false faces in the pattern as can be.

    The fitness is the sum over all windows above a score of -2 of a logistic function of the score,
    ``1 / (1 + exp(-3 score))``: nearly the number of faces, but without its plateaus. ``scales``
    are the sizes at which the pattern is looked at, as shares of its own; their counts add up.
    Raises ``ValueError`` for scales out of range.
    """

    scales: tuple[float, ...] = (1.0,)
    upsample: int = 0

    def __post_init__(self) -> None:
        _check_upsample(self.upsample)
        if not self.scales or not all(0.05 <= scale <= 4 for scale in self.scales):
            raise ValueError(f"scales lie between 0.05 and 4, not {self.scales}")

    def rate(self, picture: Picture) -> Rating:
        """Count the faces in a pattern, uint8 ``(H, W, 3)``."""
        scores = np.concatenate([self._scores(picture, scale) for scale in self.scales])
        scores = np.sort(scores)[::-1]
        fitness = float((1 / (1 + np.exp(-SHARPNESS * scores))).sum())
        found = tuple(float(score) for score in scores[scores > 0])
        return Rating(fitness, len(found), found, (len(found), fitness))

    def _scores(self, picture: Picture, scale: float) -> NDArray[np.float64]:
        height, width = (max(1, round(scale * side)) for side in picture.shape[:2])
        if scale != 1:
            if max(height, width) > MAX_SIDE:
                raise ValueError(f"at scale {scale} the pattern is larger than {MAX_SIDE} pixels")
            sized = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
            picture = np.asarray(sized)
        return detect(picture, threshold=FLOOR, upsample=self.upsample).scores


@dataclass(frozen=True, kw_only=True)
class Hide:
    """That dlib does not find the faces of those who wear the pattern.

    A view is a photo with its face at one of ``sizes`` (sides of dlib's box in pixels) that dlib
    finds when nothing is worn. The fitness is minus the mean over the views of the best score of
    any window on the wearer's face (intersection over union at least .3), at least -2. ``place``
    puts the pattern on. Make it with ``Hide.of``, which looks for the faces.
    """

    wearers: tuple[Wearer, ...]
    place: Place = field(default_factory=LowerFace)
    upsample: int = 0

    @classmethod
    def of(
        cls,
        photos: Sequence[Picture],
        *,
        sizes: Sequence[int] = (100, 140, 200),
        place: Place | None = None,
        upsample: int = 0,
    ) -> "Hide":
        """Look for the largest face on each of the photos, uint8 ``(H, W, 3)``, RGB.

        Photos and sizes at which dlib finds nothing are left out. Raises ``ValueError`` when it
        finds no face on any, and for sizes out of range.
        """
        _check_upsample(upsample)
        smallest = math.ceil(WINDOW / 2**upsample)
        if not sizes or not all(smallest <= size <= 1000 for size in sizes):
            raise ValueError(f"faces of {smallest} to 1000 pixels can be looked at, not {sizes}")
        wearers = find_wearers(photos, sorted(set(sizes)), upsample)
        if not wearers:
            raise ValueError(f"dlib finds no face on any of the {len(photos)} photos")
        return cls(wearers=wearers, place=place or LowerFace(), upsample=upsample)

    @property
    def views(self) -> tuple[tuple[int, int], ...]:
        """Number of the photo and side of the face in pixels of each view, as rated."""
        return tuple((wearer.photo, size) for wearer in self.wearers for size in wearer.sizes)

    def rate(self, picture: Picture) -> Rating:
        """Put the pattern, uint8 ``(H, W, 3)``, on every wearer and look for the face."""
        return self._rate([self.place(w.picture, w.box, picture) for w in self.wearers])

    def rate_bare(self) -> Rating:
        """Rate the wearers without a pattern."""
        return self._rate([wearer.picture for wearer in self.wearers])

    def _rate(self, worn: Sequence[Picture]) -> Rating:
        scores = []
        for wearer, photo in zip(self.wearers, worn, strict=True):
            if photo.shape != wearer.picture.shape:
                raise ValueError(f"placing made {photo.shape} of a photo of {wearer.picture.shape}")
            for size in wearer.sizes:
                view, box = sized_to(photo, wearer.box, size)
                scores.append(wearer_score(view, box, FLOOR, self.upsample))
        found = sum(score > 0 for score in scores)
        fitness = -sum(scores) / len(scores)
        return Rating(fitness, found, tuple(scores), (-found, fitness))


def _check_upsample(upsample: int) -> None:
    if not 0 <= upsample <= 2:
        raise ValueError(
            f"a picture is doubled up to twice before the search, not {upsample} times"
        )
