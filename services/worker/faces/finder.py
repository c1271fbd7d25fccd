"""Searches photos with the face network: at several scales, in tiles, upright or turned."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from services.worker.faces.copies import MIN_FACE, SLACK, Tile, tiles_of
from services.worker.faces.crops import Pixels
from services.worker.faces.network import LARGEST, POINTS, SMALLEST, STRIDE, FaceNetwork
from services.worker.faces.turning import corners_of, turned_back

FINDER = "face-finder"  # id of the bundled weights
# Tiles share a pass up to so many pixels: a small one alone is mostly overhead, and on a CPU large
# ones together are slower than one after the other (their maps leave the cache).
PIXELS_AT_ONCE = 512 * 512
GRID = 16  # sides of what the network takes are multiples of it
# No two of the 2,274 faces labeled in mask_detection/train overlap that much: by union, and by
# what of the smaller box lies in the other.
SAME_FACE, NESTED = 0.4, 0.6
# A copy with more places has no more faces, but more chances to err: so many logits are taken off
# each time it has e times as many. A face that stands out on a coarser copy loses less.
PRIOR = 0.5
MOST_CANDIDATES, MOST_FACES = 2000, 500
VOTING = 0.6  # overlap from which on a face's other finds share in its box
UPRIGHT, TURNED = (0,), (1, 2, 3)


@dataclass(frozen=True)
class Find:
    """Boxes ``(N, 4)`` in pixels of the photo, ``(x0, y0, x1, y1)``, scores and points.

    ``scores`` are ``(N,)``, ``points`` ``(N, 5, 2)``: eyes, nose tip, corners of the mouth.
    ``turns`` ``(N,)`` counts the quarter turns, against the clock, that set each face upright.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    points: NDArray[np.float32]
    turns: NDArray[np.int64]


@dataclass(frozen=True)
class _Part:
    """Finds of one tile; places are in pixels of its copy, then of the photo."""

    boxes: Tensor
    scores: Tensor
    points: Tensor


def find_faces(
    network: FaceNetwork,
    image: Pixels,
    *,
    threshold: float,
    min_face: float = MIN_FACE,
    turns: tuple[int, ...] = UPRIGHT,
) -> Find:
    """Find the faces of a uint8 RGB photo ``(H, W, 3)``, most confident first.

    Faces whose longer side has ``min_face`` pixels or more are searched, whatever the photo's size;
    in small photos smaller ones, too (``copies.smallest_face``). ``turns`` are the quarter turns
    against the clock at which the photo is searched.
    """
    return find_in_all(network, [image], threshold=threshold, min_face=min_face, turns=turns)[0]


@torch.inference_mode()
def find_in_all(
    network: FaceNetwork,
    images: Sequence[Pixels],
    *,
    threshold: float,
    min_face: float = MIN_FACE,
    turns: tuple[int, ...] = UPRIGHT,
) -> list[Find]:
    """Find the faces of several photos as ``find_faces`` does; their small copies share passes."""
    device = next(network.parameters()).device
    found: list[list[Find]] = [[] for _ in images]
    tiles = (
        tile
        for photo, image in enumerate(images)
        for tile in tiles_of(image, photo=photo, min_face=min_face, turns=turns)
    )
    for batch in _batches(tiles):
        for tile, part in zip(batch, _one_pass(network, batch, threshold, device), strict=True):
            found[tile.photo].append(_to_photo(part, images[tile.photo], tile))
    return [_merged(parts) for parts in found]


def _batches(tiles: Iterable[Tile]) -> Iterator[list[Tile]]:
    """Put tiles together that the network takes at the same size; a large one waits for none."""
    waiting = defaultdict(list)
    for tile in tiles:
        height, width = grid = _grid(tile)
        most = max(1, PIXELS_AT_ONCE // (height * width))
        waiting[grid].append(tile)
        if len(waiting[grid]) == most:
            yield waiting.pop(grid)
    yield from waiting.values()


def _grid(tile: Tile) -> tuple[int, int]:
    """Return height and width as the network takes them."""
    height, width = tile.pixels.shape[:2]
    return -(-height // GRID) * GRID, -(-width // GRID) * GRID


def _one_pass(
    network: FaceNetwork, batch: Sequence[Tile], threshold: float, device: torch.device
) -> list[_Part]:
    """Return the faces of each tile whose centers lie in its share."""
    logits, boxes, points = network(_input(batch, device))
    more = torch.tensor([tile.places for tile in batch], device=device).log()
    heat = (logits - PRIOR * more[:, None, None]).sigmoid()
    boxes, points = boxes.permute(0, 2, 3, 1), points.permute(0, 2, 3, 1)
    peaks = (heat == functional.max_pool2d(heat, 3, stride=1, padding=1)) & (heat >= threshold)
    found = []
    for number, tile in enumerate(batch):
        rows, columns = (-(-side // STRIDE) for side in tile.pixels.shape[:2])
        peaks[number, rows:] = False
        peaks[number, :, columns:] = False
        corner = boxes.new_tensor(tile.corner)
        there = boxes[number][peaks[number]] + corner.repeat(2)
        marks = points[number][peaks[number]].view(-1, POINTS, 2) + corner
        scores = heat[number][peaks[number]]
        sides = (there[:, 2:] - there[:, :2]).amax(1)
        middle = (there[:, 2:] + there[:, :2]) / 2
        low, high = there.new_tensor(tile.share[:2]), there.new_tensor(tile.share[2:])
        own = ((middle >= low - SLACK) & (middle < high + SLACK)).all(1)
        fits = own & (sides > SMALLEST / 2) & (sides < 2 * LARGEST)
        found.append(_Part(there[fits], scores[fits], marks[fits]))
    return found


def _input(batch: Sequence[Tile], device: torch.device) -> Tensor:
    """Return tiles as a tensor in [0, 1], laid out channels last, on a ground of gray."""
    pixels = torch.full((len(batch), *_grid(batch[0]), 3), 127.5, device=device)
    for place, tile in zip(pixels, batch, strict=True):
        height, width = tile.pixels.shape[:2]
        place[:height, :width] = torch.from_numpy(tile.pixels).to(device)
    return pixels.div_(255).permute(0, 3, 1, 2)


def _to_photo(part: _Part, image: Pixels, tile: Tile) -> Find:
    """Take finds from a tile's copy to the photo, and leave no box outside of it."""
    height, width = image.shape[:2]
    stretch = np.array(tile.stretch, dtype=np.float32)
    corners = part.boxes.cpu().numpy().reshape(-1, 2, 2) * stretch
    boxes = corners_of(turned_back(corners, tile.turn, width, height))
    points = turned_back(part.points.cpu().numpy() * stretch, tile.turn, width, height)
    limits = np.array([width, height] * 2, dtype=np.float32)
    scores = part.scores.cpu().numpy()
    return Find(boxes.clip(0, limits), scores, points, np.full(len(scores), tile.turn))


def _merged(parts: Sequence[Find]) -> Find:
    boxes, scores, points, turns = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("boxes", "scores", "points", "turns")
    )
    kept = surest(torch.from_numpy(boxes), torch.from_numpy(scores))[:MOST_FACES].numpy()
    return Find(voted(boxes, scores, turns, kept), scores[kept], points[kept], turns[kept])


def voted(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    turns: NDArray[np.int64],
    kept: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Average each kept box with what other copies say of the face (Gidaris and Komodakis 2015)."""
    union, _ = _overlaps(torch.from_numpy(boxes[kept]), torch.from_numpy(boxes))
    alike = torch.from_numpy(turns[kept, None] == turns)
    votes = ((union > VOTING) & alike) * torch.from_numpy(scores)
    votes[torch.arange(len(kept)), torch.from_numpy(kept)] = torch.from_numpy(scores[kept])
    averaged = votes @ torch.from_numpy(boxes) / votes.sum(1, keepdim=True).clamp(min=1e-6)
    return averaged.numpy().astype(np.float32)


def _overlaps(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return intersection over union, and over the smaller area, of ``(N, 4)`` and ``(M, 4)``."""
    low = torch.maximum(first[:, None, :2], second[:, :2])
    high = torch.minimum(first[:, None, 2:], second[:, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    areas, others = ((each[:, 2:] - each[:, :2]).clamp(min=0).prod(1) for each in (first, second))
    union = shared / (areas[:, None] + others - shared).clamp(min=1e-6)
    return union, shared / torch.minimum(areas[:, None], others).clamp(min=1e-6)


def surest(boxes: Tensor, scores: Tensor) -> Tensor:
    """Return the numbers of boxes that no surer one shares its face with, surest first.

    Two boxes mean one face when they overlap by ``SAME_FACE`` of their union, or when ``NESTED`` of
    the smaller one lies in the other: a half face found inside of the whole, for example.
    """
    order = scores.argsort(descending=True, stable=True)[:MOST_CANDIDATES]
    boxes = boxes[order]
    union, nested = _overlaps(boxes, boxes)
    same = ((union > SAME_FACE) | (nested > NESTED)).numpy()
    kept = np.ones(len(boxes), dtype=bool)
    for i in range(len(boxes)):
        if kept[i]:
            kept[i + 1 :] &= ~same[i, i + 1 :]
    return order[torch.from_numpy(kept)]
