"""Searches photos with the face network, at several scales."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.ops import nms

from services.worker.faces.crops import Pixels
from services.worker.faces.network import LARGEST, SMALLEST, STRIDE, FaceNetwork

FINDER = "face-finder"  # id of the bundled weights
LONGEST_SIDE = 640
# Each pass searches a copy a third as large as the one before: faces of 8 to 72 px on one are 24
# to 216 px on the next, so that no size falls between two passes.
STEP = 3
SMALLEST_COPY = 24
# Copies share a pass up to so many pixels: a small one alone is mostly overhead, and on a CPU large
# ones together are slower than one after the other (their maps leave the cache).
PIXELS_AT_ONCE = 512 * 512
GRID = 16  # sides of what the network takes are multiples of it
SAME_FACE = 0.4
MOST_FACES = 500


@dataclass(frozen=True)
class Find:
    """Boxes ``(N, 4)`` in pixels of the photo, ``(x0, y0, x1, y1)``, and scores ``(N,)``."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class _Copy:
    """A photo's copy to search: uint8 ``(H, W, 3)``."""

    photo: int
    pixels: Pixels

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width as the network takes them."""
        height, width = self.pixels.shape[:2]
        return -(-height // GRID) * GRID, -(-width // GRID) * GRID


def find_faces(
    network: FaceNetwork,
    image: Pixels,
    *,
    threshold: float,
    longest_side: int = LONGEST_SIDE,
    largest_scale: float = 2.0,
) -> Find:
    """Find the faces of a uint8 RGB photo ``(H, W, 3)``, most confident first.

    The photo is searched on a copy whose longer side is ``longest_side`` pixels, enlarged at most
    ``largest_scale`` times, and on smaller copies for larger faces.
    """
    return find_in_all(
        network,
        [image],
        threshold=threshold,
        longest_side=longest_side,
        largest_scale=largest_scale,
    )[0]


def smallest_face(
    height: int,
    width: int,
    *,
    longest_side: int = LONGEST_SIDE,
    largest_scale: float = 2.0,
) -> float:
    """Return the longer side, in pixels of the photo, of the smallest face that is searched."""
    return SMALLEST / min(largest_scale, longest_side / max(height, width))


@torch.inference_mode()
def find_in_all(
    network: FaceNetwork,
    images: Sequence[Pixels],
    *,
    threshold: float,
    longest_side: int = LONGEST_SIDE,
    largest_scale: float = 2.0,
) -> list[Find]:
    """Find the faces of several photos as ``find_faces`` does; their small copies share passes."""
    device = next(network.parameters()).device
    found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in images]
    copies = [
        _Copy(photo, pixels)
        for photo, image in enumerate(images)
        for pixels in _copies(image, longest_side, largest_scale)
    ]
    for batch in _batches(copies):
        for copy, (boxes, scores) in zip(
            batch, _one_pass(network, batch, threshold, device), strict=True
        ):
            there = _to_photo(boxes, images[copy.photo], copy.pixels)
            found[copy.photo].append((there, scores))
    return [_merged(passes) for passes in found]


def _copies(image: Pixels, longest_side: int, largest_scale: float) -> Iterator[Pixels]:
    height, width = image.shape[:2]
    scale = min(largest_scale, longest_side / max(height, width))
    while True:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        yield np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        scale /= STEP
        if max(height, width) * scale < SMALLEST_COPY:
            return


def _batches(copies: Sequence[_Copy]) -> Iterator[list[_Copy]]:
    """Put copies together that the network takes at the same size."""
    alike = defaultdict(list)
    for copy in copies:
        alike[copy.grid].append(copy)
    for (height, width), group in alike.items():
        most = max(1, PIXELS_AT_ONCE // (height * width))
        for start in range(0, len(group), most):
            yield group[start : start + most]


def _one_pass(
    network: FaceNetwork, batch: Sequence[_Copy], threshold: float, device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """Return, for each copy, boxes ``(N, 4)`` in its own pixels and scores ``(N,)``."""
    logits, boxes = network(_input(batch, device))
    heat, boxes = logits.sigmoid(), boxes.permute(0, 2, 3, 1)
    peaks = (heat == functional.max_pool2d(heat, 3, stride=1, padding=1)) & (heat >= threshold)
    found = []
    for number, copy in enumerate(batch):
        rows, columns = (-(-side // STRIDE) for side in copy.pixels.shape[:2])
        peaks[number, rows:] = False
        peaks[number, :, columns:] = False
        there, scores = boxes[number][peaks[number]], heat[number][peaks[number]]
        sides = (there[:, 2:] - there[:, :2]).amax(1)
        fits = (sides > SMALLEST / 2) & (sides < 2 * LARGEST)
        found.append((there[fits], scores[fits]))
    return found


def _input(batch: Sequence[_Copy], device: torch.device) -> Tensor:
    """Return copies as a tensor in [0, 1], laid out channels last, on a ground of gray."""
    pixels = torch.full((len(batch), *batch[0].grid, 3), 127.5, device=device)
    for place, copy in zip(pixels, batch, strict=True):
        height, width = copy.pixels.shape[:2]
        place[:height, :width] = torch.from_numpy(copy.pixels).to(device)
    return pixels.div_(255).permute(0, 3, 1, 2)


def _to_photo(boxes: Tensor, image: Pixels, copy: Pixels) -> Tensor:
    """Take boxes ``(N, 4)`` from a copy to the photo, and leave nothing outside of it."""
    height, width = image.shape[:2]
    stretch = boxes.new_tensor([width / copy.shape[1], height / copy.shape[0]]).repeat(2)
    limits = boxes.new_tensor([width, height]).repeat(2)
    return (boxes * stretch).clamp(min=0).minimum(limits)


def _merged(passes: Sequence[tuple[Tensor, Tensor]]) -> Find:
    boxes = torch.cat([boxes for boxes, _ in passes]).cpu()
    scores = torch.cat([scores for _, scores in passes]).cpu()
    kept = nms(boxes, scores, SAME_FACE)[:MOST_FACES]
    return Find(boxes[kept].numpy(), scores[kept].numpy())
