"""Training examples for the face finder, cut from photos with boxes."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import Tensor

from services.worker.datasets.labeled import read_rgb, read_voc
from services.worker.faces.crops import Pixels
from services.worker.faces.mtcnn import Mtcnn, as_drawn
from services.worker.faces.network import LARGEST, SMALLEST, STRIDE, centers

Boxes = NDArray[np.float32]
SIDE = 160


@dataclass(frozen=True)
class FacePhoto:
    """A photo with its faces' boxes ``(N, 4)`` in pixels."""

    name: str
    pixels: Pixels
    boxes: Boxes


def load_labeled(root: Path) -> list[FacePhoto]:
    """Load the photos of a Pascal VOC folder, whatever the class of their faces."""
    photos = []
    for path in sorted((root / "annotations").glob("*.xml")):
        boxes = np.array([box for _, box in read_voc(path)], dtype=np.float32).reshape(-1, 4)
        photos.append(FacePhoto(path.stem, read_rgb(root / "images" / f"{path.stem}.jpg"), boxes))
    return photos


def hold_out(
    photos: list[FacePhoto], share: float, *, seed: int = 7
) -> tuple[list[FacePhoto], list[FacePhoto]]:
    """Split photos: about ``1 - share`` of them, and the rest."""
    order = np.random.default_rng(seed).permutation(len(photos))
    held = set(order[: round(share * len(photos))].tolist())
    return (
        [photo for i, photo in enumerate(photos) if i not in held],
        [photo for i, photo in enumerate(photos) if i in held],
    )


def load_portraits(root: Path, *, most: int, seed: int = 7) -> list[FacePhoto]:
    """Load one photo each of ``most`` people at random, and box the faces with MTCNN."""
    people = sorted(folder for folder in root.iterdir() if folder.is_dir())
    order = np.random.default_rng(seed).permutation(len(people))[:most]
    detector = Mtcnn()
    photos = []
    for i in order:
        pixels = read_rgb(min(people[i].iterdir()))
        found = np.array([face.box for face in detector.detect(pixels)], dtype=np.float32)
        if len(found):
            photos.append(FacePhoto(people[i].name, pixels, as_drawn(found)))
    return photos


def example(photo: FacePhoto, random: np.random.Generator, *, empty: float) -> tuple[Tensor, Boxes]:
    """Cut a square of ``SIDE`` px around a face brought to a random size; flip and recolor it."""
    side = float(np.exp(random.uniform(np.log(SMALLEST), np.log(LARGEST))))
    height, width = photo.pixels.shape[:2]
    if len(photo.boxes) and random.random() >= empty:
        x0, y0, x1, y1 = photo.boxes[random.integers(len(photo.boxes))]
        scale = side / max(x1 - x0, y1 - y0)
        middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    else:
        scale = float(np.exp(random.uniform(np.log(0.4), np.log(2.0))))
        middle = (random.uniform(0, width), random.uniform(0, height))
    scale = float(np.clip(scale, 0.12, 3.0))
    reach = SIDE / scale
    left = middle[0] - random.uniform(0.1, 0.9) * reach
    top = middle[1] - random.uniform(0.1, 0.9) * reach
    image = _cut(photo.pixels, scale, left, top, random)
    boxes = (photo.boxes - np.array([left, top, left, top], dtype=np.float32)) * scale
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        boxes = np.stack([SIDE - boxes[:, 2], boxes[:, 1], SIDE - boxes[:, 0], boxes[:, 3]], 1)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = change(image).enhance(random.uniform(0.6, 1.4))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1), boxes.astype(np.float32)


def _cut(
    pixels: Pixels, scale: float, left: float, top: float, random: np.random.Generator
) -> Image.Image:
    """Cut the square whose corner is ``(left, top)``, scaled; outside is one random color."""
    height, width = pixels.shape[:2]
    corners = (max(0.0, left), max(0.0, top), left + SIDE / scale, top + SIDE / scale)
    inside = (*corners[:2], min(float(width), corners[2]), min(float(height), corners[3]))
    image = Image.new("RGB", (SIDE, SIDE), tuple(int(v) for v in random.integers(0, 256, 3)))
    size = (round((inside[2] - inside[0]) * scale), round((inside[3] - inside[1]) * scale))
    if min(size) < 1:
        return image
    part = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, box=inside)
    image.paste(part, (round((inside[0] - left) * scale), round((inside[1] - top) * scale)))
    return image


def targets(boxes: Boxes, side: int = SIDE) -> tuple[Tensor, Tensor, Tensor]:
    """Return the heat to learn, which cells count, and the box to learn at each (NaN: none).

    Heat is a Gaussian around each face's center (Zhou et al. 2019). Cells on faces too small or too
    large for one pass do not count.
    """
    cells = side // STRIDE
    rows, columns = centers(cells, cells, torch.device("cpu"))
    heat, counts = torch.zeros(cells, cells), torch.ones(cells, cells)
    learned = torch.full((4, cells, cells), math.nan)
    for x0, y0, x1, y1 in sorted(boxes.tolist(), key=lambda b: -(b[2] - b[0]) * (b[3] - b[1])):
        width, height = x1 - x0, y1 - y0
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        if not 0.75 * SMALLEST <= max(width, height) <= 1.5 * LARGEST or min(width, height) < 4:
            counts[(rows > y0) & (rows < y1) & (columns > x0) & (columns < x1)] = 0
            continue
        if not (0 <= x < side and 0 <= y < side):
            continue
        spread = (max(width / 6, 1.5), max(height / 6, 1.5))
        bell = torch.exp(-(((columns - x) / spread[0]) ** 2 + ((rows - y) / spread[1]) ** 2) / 2)
        nearest = (min(cells - 1, int(y / STRIDE)), min(cells - 1, int(x / STRIDE)))
        bell[nearest] = 1
        near = bell > 0.6
        learned[:, near] = torch.tensor([x0, y0, x1, y1])[:, None]
        heat = torch.maximum(heat, bell)
    return heat, counts, learned
