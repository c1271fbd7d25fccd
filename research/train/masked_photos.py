"""Photos of people in masks with the masks' transparency: the ``cnn`` projector's examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from services.worker.datasets.identities import photos_of, read_photo
from services.worker.faces.detection import FaceDetector
from services.worker.masks.cnn_projector import SIDE, put_through
from services.worker.masks.wearers import aligned_wearer

MASK = 2  # its number in the label maps


@dataclass(frozen=True)
class MaskedPhotos:
    """Photos ``(N, 3, 128, 128)`` and how much of each pixel is mask ``(N, 1, ...)``, in [0, 1]."""

    photos: Tensor
    alphas: Tensor
    names: tuple[str, ...]

    def of(self, chosen: Sequence[int]) -> "MaskedPhotos":
        """Return some of the photos."""
        which = list(chosen)
        names = tuple(self.names[number] for number in which)
        return MaskedPhotos(self.photos[which], self.alphas[which], names)

    def beside(self, other: "MaskedPhotos") -> "MaskedPhotos":
        """Return these photos and others."""
        photos = torch.cat([self.photos, other.photos])
        return MaskedPhotos(
            photos, torch.cat([self.alphas, other.alphas]), self.names + other.names
        )


def read_masked(root: Path) -> MaskedPhotos:
    """Read ``images/*.jpg`` and ``labels/*.png``; raises ``ValueError`` where there are none."""
    photos, alphas, names = [], [], []
    for path in sorted((root / "images").glob("*.jpg")):
        with Image.open(root / "labels" / f"{path.stem}.png") as label:
            worn = np.asarray(label) == MASK
        photos.append(_small(Image.fromarray(read_photo(path))))
        alphas.append(_small(Image.fromarray(np.uint8(255) * worn))[:1])
        names.append(path.stem)
    if not names:
        raise ValueError(f"no masked photos in {root}")
    return MaskedPhotos(torch.stack(photos), torch.stack(alphas), tuple(names))


def _small(image: Image.Image) -> Tensor:
    resized = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255


def bare_faces(root: Path, count: int, detector: FaceDetector) -> MaskedPhotos:
    """Align the first photo of so many people, drawn at random; none of them wears a mask."""
    first = dict(reversed(list(photos_of(root))))
    names = sorted(first)
    order = np.random.default_rng(0).permutation(len(names)).tolist()
    kept: list[tuple[str, Tensor]] = []
    for index in order:
        if len(kept) == count:
            break
        photo = read_photo(first[names[index]])
        if faces := detector.detect(photo):
            frame, _ = aligned_wearer(photo, faces[0])
            kept.append((names[index], _small(Image.fromarray(frame))))
    photos = torch.stack([photo for _, photo in kept])
    alphas = torch.zeros(len(kept), 1, SIDE, SIDE)
    return MaskedPhotos(photos, alphas, tuple(name for name, _ in kept))


def moved(photos: Tensor, alphas: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Show photos up to 15 % larger or 20 % smaller, shifted by up to 6 %."""
    count = len(photos)
    size = 0.85 + 0.35 * torch.rand(count, generator=generator)
    shift = 0.24 * torch.rand(count, 2, generator=generator) - 0.12
    affine = torch.zeros(count, 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = size
    affine[:, :, 2] = shift
    both = torch.cat([photos, alphas], 1)
    grid = functional.affine_grid(affine, list(both.shape), align_corners=False)
    seen = functional.grid_sample(both, grid, padding_mode="border", align_corners=False)
    return seen[:, :3], seen[:, 3:]


def recolored(photos: Tensor, alphas: Tensor, generator: torch.Generator) -> Tensor:
    """Show the same masks in random colors, every second one in a random pattern."""
    count = len(photos)
    colors = torch.rand(count, 3, 1, 1, generator=generator).expand(-1, -1, 8, 8)
    patterns = torch.rand(count, 3, 8, 8, generator=generator)
    busy = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
    designs = functional.interpolate(torch.where(busy, patterns, colors), 64, mode="bilinear")
    return put_through(photos, designs, alphas)
