"""Training examples for the face finder: squares cut from photos, and composites of faces."""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from research.train.face_pictures import FacePhoto, recolored
from services.worker.faces.crops import Pixels
from services.worker.faces.network import LARGEST, SMALLEST

SIDE = 128
FEWEST, MOST = 1, 7  # pieces of a composite
HIDDEN = 0.6  # share of a face that, covered, makes it none to learn


@dataclass(frozen=True)
class Example:
    """A square ``(SIDE, SIDE, 3)`` uint8 with boxes ``(N, 4)`` and points ``(N, 5, 2)`` in pixels.

    Points are NaN where nobody knows them. ``ignored`` ``(M, 4)`` are places that may be faces.
    """

    pixels: Pixels
    boxes: NDArray[np.float32]
    points: NDArray[np.float32]
    ignored: NDArray[np.float32]


def example(photo: FacePhoto, random: np.random.Generator, *, empty: float = 0.0) -> Example:
    """Cut a square around a face brought to a random size; turn, flip and recolor it.

    With the chance ``empty`` it is cut anywhere. Mostly the square lies within the photo.
    """
    height, width = photo.pixels.shape[:2]
    if len(photo.boxes) and random.random() >= empty:
        box = photo.boxes[random.integers(len(photo.boxes))]
        longer = float(max(box[2] - box[0], box[3] - box[1]))
        scale = _side(random) / longer
        middle = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    else:
        scale = float(np.exp(random.uniform(np.log(0.3), np.log(2.5))))
        middle = random.uniform((0, 0), (width, height))
    within = random.random() < 0.85
    least = 0.75 * SIDE / max(height, width) if within else 0.05
    scale = float(np.clip(scale, least, 3.5))
    there = random.uniform(0.08, 0.92, 2) * SIDE
    flip = random.random() < 0.5
    if within:
        ahead = np.array([middle[0], middle[1]]) * scale
        after = np.array([width - middle[0], height - middle[1]]) * scale
        if flip:
            ahead[0], after[0] = after[0], ahead[0]
        low, high = np.maximum(SIDE - after, 0.08 * SIDE), np.minimum(ahead, 0.92 * SIDE)
        there = np.where(low < high, random.uniform(low, np.maximum(high, low)), there)
    matrix = _affine(scale, _angle(random), middle, there, flip=flip)
    ground = np.full((SIDE, SIDE, 3), random.integers(0, 256, 3), dtype=np.uint8)
    _draw(ground, photo.pixels, matrix)
    return Example(recolored(ground, random), *_moved(photo, matrix))


def composite(photos: list[FacePhoto], ground: Pixels, random: np.random.Generator) -> Example:
    """Paste faces, each with some of what surrounds it, on a ground without faces.

    ``ground`` is uint8 ``(SIDE, SIDE, 3)``. Later ones cover earlier ones; a face that is covered
    for the most part counts as a place that may be one.
    """
    canvas = ground.copy()
    boxes: list[NDArray[np.float32]] = []
    points: list[NDArray[np.float32]] = []
    ignored: list[NDArray[np.float32]] = []
    common = _side(random)
    for photo in photos:
        own = random.random() < 0.5
        side = _side(random) if own else common * random.uniform(0.7, 1.4)
        box = photo.boxes[0]
        size = box[2:] - box[:2]
        scale = float(np.clip(side / size.max(), 0.02, 3.5))
        middle = (box[:2] + box[2:]) / 2
        there = random.uniform(-0.02, 1.02, 2) * SIDE
        matrix = _affine(scale, _angle(random), middle, there, flip=random.random() < 0.5)
        reach = size.max() * random.uniform(0.05, 1.1, 4)
        height, width = photo.pixels.shape[:2]
        x0, y0 = (int(v) for v in np.maximum(box[:2] - reach[:2], 0))
        x1, y1 = int(min(width, box[2] + reach[2])), int(min(height, box[3] + reach[3]))
        part = photo.pixels[y0:y1, x0:x1]
        inner = matrix.copy()
        inner[:, 2] += matrix[:, :2] @ np.array([x0, y0])
        cover = _draw(
            canvas, part, inner, feather=random.random() < 0.4, oval=random.random() < 0.3
        )
        kept = [i for i, old in enumerate(boxes) if _seen(old, cover) >= 1 - HIDDEN]
        ignored += [boxes[i] for i in range(len(boxes)) if i not in kept]
        boxes, points = [boxes[i] for i in kept], [points[i] for i in kept]
        new, marks, unsure = _moved(photo, matrix)
        boxes.append(new[0])
        points.append(marks[0])
        ignored += list(new[1:]) + list(unsure)
    made = Example(
        recolored(canvas, random),
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array(points, dtype=np.float32).reshape(-1, 5, 2),
        np.array(ignored, dtype=np.float32).reshape(-1, 4),
    )
    return covered(made, random)


def covered(made: Example, random: np.random.Generator) -> Example:
    """Cover up to a third of some faces with a bar or an oval of one color."""
    pixels = made.pixels.copy()
    for x0, y0, x1, y1 in made.boxes.tolist():
        if random.random() > 0.12 or x1 - x0 < 12:
            continue
        color = tuple(int(v) for v in random.integers(0, 256, 3))
        width, height = x1 - x0, y1 - y0
        x, y = random.uniform(x0, x1), random.uniform(y0, y1)
        half = (max(1, int(width * random.uniform(0.1, 0.3))), max(1, int(height * 0.2)))
        cv2.ellipse(pixels, (int(x), int(y)), half, random.uniform(0, 180), 0, 360, color, -1)
    return replace(made, pixels=pixels)


def _side(random: np.random.Generator) -> float:
    """Draw a face's longer side: mostly one that a pass finds, small ones more often."""
    if random.random() < 0.07:
        return float(np.exp(random.uniform(np.log(LARGEST), np.log(4 * LARGEST))))
    return float(np.exp(random.uniform(np.log(SMALLEST * 0.9), np.log(LARGEST))))


def _angle(random: np.random.Generator) -> float:
    """Draw a turn in radians: none, a little or, rarely, up to 45 degrees."""
    most = (0.0, 12.0, 0.0, 12.0, 25.0, 12.0, 0.0, 45.0)[random.integers(8)]
    return math.radians(random.uniform(-most, most))


def _affine(
    scale: float,
    angle: float,
    middle: NDArray[np.floating],
    there: NDArray[np.floating],
    *,
    flip: bool,
) -> NDArray[np.float64]:
    """Return the map ``(2, 3)`` that turns and sizes a photo and brings ``middle`` to ``there``."""
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]])
    if flip:
        linear[:, 0] *= -1
    return np.concatenate([linear, (there - linear @ middle)[:, None]], 1)


def _draw(
    canvas: Pixels,
    part: Pixels,
    matrix: NDArray[np.float64],
    *,
    feather: bool = False,
    oval: bool = False,
) -> NDArray[np.float32]:
    """Draw a picture on a canvas; returns how much of each pixel it covers, ``(SIDE, SIDE)``."""
    total = np.zeros((SIDE, SIDE), dtype=np.float32)
    reduction = max(1, int(1 / math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))))
    height, width = part.shape[:2]
    if reduction > 1:
        size = (max(1, width // reduction), max(1, height // reduction))
        part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        back = np.array([width / size[0], height / size[1]])
        shift = matrix[:, 2] + matrix[:, :2] @ ((back - 1) / 2)
        matrix = np.concatenate([matrix[:, :2] * back, shift[:, None]], 1)
        height, width = part.shape[:2]
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]])
    there = corners @ matrix[:, :2].T + matrix[:, 2]
    x0, y0 = (int(v) for v in np.clip(np.floor(there.min(0)), 0, SIDE))
    x1, y1 = (int(v) for v in np.clip(np.ceil(there.max(0)) + 1, 0, SIDE))
    if x1 <= x0 or y1 <= y0:
        return total
    matrix = matrix - np.array([[0, 0, x0], [0, 0, y0]])
    cover = np.full((height, width), 0 if oval else 255, dtype=np.uint8)
    if oval:
        half = (width // 2, height // 2)
        cv2.ellipse(cover, half, half, 0, 0, 360, 255, -1)
    drawn = cv2.warpAffine(part, matrix, (x1 - x0, y1 - y0), borderMode=cv2.BORDER_REPLICATE)
    share = cv2.warpAffine(cover, matrix, (x1 - x0, y1 - y0)).astype(np.float32) / 255
    if feather:
        share = np.asarray(cv2.blur(share, (5, 5)), dtype=np.float32)
    under = canvas[y0:y1, x0:x1]
    canvas[y0:y1, x0:x1] = under + (drawn.astype(np.float32) - under) * share[..., None]
    total[y0:y1, x0:x1] = share
    return total


def _moved(
    photo: FacePhoto, matrix: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return a photo's boxes, points and doubtful places where the map takes them."""
    points = photo.points @ matrix[:, :2].T + matrix[:, 2]
    if np.linalg.det(matrix[:, :2]) < 0:
        points = points[:, [1, 0, 2, 4, 3]]  # left is right in a mirror
    return (
        moved_boxes(photo.boxes, matrix),
        points.astype(np.float32),
        moved_boxes(photo.ignored, matrix),
    )


def moved_boxes(boxes: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """Map boxes ``(N, 4)``: each becomes the box of the ellipse inside of it, turned."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 @ matrix[:, :2].T + matrix[:, 2]
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    reach = np.sqrt(half**2 @ (matrix[:, :2] ** 2).T)
    return np.concatenate([middle - reach, middle + reach], 1).astype(np.float32)


def _seen(box: NDArray[np.float32], cover: NDArray[np.float32]) -> float:
    """Return the share of a box that a cover leaves to be seen."""
    x0, y0 = (int(v) for v in np.clip(box[:2], 0, SIDE - 1))
    x1, y1 = (int(v) for v in np.clip(box[2:] + 1, 1, SIDE))
    inside = cover[y0:y1, x0:x1]
    return 1.0 - float(inside.mean()) if inside.size else 0.0
