"""Searches photos with the face network, at several scales."""

from collections.abc import Iterator
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
SAME_FACE = 0.4
MOST_FACES = 500


@dataclass(frozen=True)
class Find:
    """Boxes ``(N, 4)`` in pixels of the photo, ``(x0, y0, x1, y1)``, and scores ``(N,)``."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]


@torch.inference_mode()
def find_faces(
    network: FaceNetwork,
    image: Pixels,
    *,
    threshold: float,
    longest_side: int = LONGEST_SIDE,
    largest_scale: float = 2.0,
) -> Find:
    """Find the faces of a uint8 RGB photo ``(H, W, 3)``, surest first.

    The photo is searched on a copy whose longer side is ``longest_side`` pixels, enlarged at most
    ``largest_scale`` times, and on smaller copies for larger faces.
    """
    device = next(network.parameters()).device
    found = [
        _one_pass(network, copy, threshold).to_photo(image, copy)
        for copy in _copies(image, longest_side, largest_scale, device)
    ]
    boxes = torch.cat([level.boxes for level in found]).cpu()
    scores = torch.cat([level.scores for level in found]).cpu()
    kept = nms(boxes, scores, SAME_FACE)[:MOST_FACES]
    return Find(boxes[kept].numpy(), scores[kept].numpy())


@dataclass(frozen=True)
class _Pass:
    boxes: Tensor
    scores: Tensor

    def to_photo(self, image: Pixels, copy: Tensor) -> "_Pass":
        height, width = image.shape[:2]
        stretch = self.boxes.new_tensor([width / copy.shape[3], height / copy.shape[2]]).repeat(2)
        limits = self.boxes.new_tensor([width, height]).repeat(2)
        return _Pass((self.boxes * stretch).clamp(min=0).minimum(limits), self.scores)


def _copies(
    image: Pixels, longest_side: int, largest_scale: float, device: torch.device
) -> Iterator[Tensor]:
    height, width = image.shape[:2]
    scale = min(largest_scale, longest_side / max(height, width))
    while True:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(small)).to(device).permute(2, 0, 1)[None]
        yield pixels.float() / 255
        scale /= STEP
        if max(height, width) * scale < SMALLEST_COPY:
            return


def _one_pass(network: FaceNetwork, copy: Tensor, threshold: float) -> _Pass:
    height, width = copy.shape[2:]
    padded = functional.pad(copy, (0, -width % 16, 0, -height % 16), value=0.5)
    logits, boxes = network(padded.contiguous(memory_format=torch.channels_last))
    heat = logits.sigmoid()
    peaks = (heat == functional.max_pool2d(heat, 3, stride=1, padding=1)) & (heat >= threshold)
    peaks[:, -(-height // STRIDE) :] = False
    peaks[:, :, -(-width // STRIDE) :] = False
    found, scores = boxes.permute(0, 2, 3, 1)[peaks], heat[peaks]
    sides = (found[:, 2:] - found[:, :2]).amax(1)
    fits = (sides > SMALLEST / 2) & (sides < 2 * LARGEST)
    return _Pass(found[fits], scores[fits])
