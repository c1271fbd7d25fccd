"""Photos that the face finder learns from, how they are recolored, and pictures without faces."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from services.worker.datasets.labeled import read_rgb, read_voc
from services.worker.faces.alignment import align
from services.worker.faces.crops import Pixels

Boxes = NDArray[np.float32]
NO_BOXES = np.empty((0, 4), dtype=np.float32)


@dataclass(frozen=True)
class FacePhoto:
    """A photo with its faces' boxes ``(N, 4)`` and points ``(N, 5, 2)``, in pixels.

    Points are NaN where nobody knows them; ``ignored`` ``(M, 4)`` are places that may be faces.
    """

    name: str
    pixels: Pixels
    boxes: Boxes
    points: NDArray[np.float32]
    ignored: Boxes


def load_labeled(root: Path) -> list[FacePhoto]:
    """Load the photos of a Pascal VOC folder, whatever the class of their faces."""
    photos = []
    for path in sorted((root / "annotations").glob("*.xml")):
        boxes = np.array([box for _, box in read_voc(path)], dtype=np.float32).reshape(-1, 4)
        points = np.full((len(boxes), 5, 2), np.nan, dtype=np.float32)
        pixels = read_rgb(root / "images" / f"{path.stem}.jpg")
        photos.append(FacePhoto(path.stem, pixels, boxes, points, NO_BOXES))
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


def recolored(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """Change light, contrast and color; sometimes blur, darken, add noise or compress."""
    contrast, gain = random.uniform(0.6, 1.35), random.uniform(0.7, 1.3, 3)
    if random.random() < 0.7:
        gain[:] = gain[0]
    if random.random() < 0.1:
        gain *= random.uniform(0.15, 0.6)
    color = random.uniform(0.5, 1.4) if random.random() < 0.92 else 0.0
    mix = (color * np.eye(3) + (1 - color) / 3) * contrast * gain[:, None]
    shift = float(pixels.mean()) * (1 - contrast) * gain
    image = cv2.transform(pixels.astype(np.float32), np.column_stack([mix, shift]))
    kind = random.random()
    if kind < 0.22:
        image = cv2.GaussianBlur(image, (0, 0), random.uniform(0.4, 1.7))
    elif kind < 0.32:
        noise = random.standard_normal(image.shape, np.float32)
        image = np.asarray(image + np.float32(random.uniform(2, 14)) * noise)
    made = np.clip(image, 0, 255).astype(np.uint8)
    if random.random() < 0.3:
        quality = int(random.integers(25, 92))
        _, data = cv2.imencode(".jpg", made, [cv2.IMWRITE_JPEG_QUALITY, quality])
        made = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)
    return made


def faceless(side: int, random: np.random.Generator) -> Pixels:
    """Draw a picture without faces, uint8 ``(side, side, 3)``: print, weave, gradient or shapes."""
    draw = (_print, _clouds, _gradient, _weave, _shapes)[random.integers(5)]
    return draw(side, random)


def _print(side: int, random: np.random.Generator) -> Pixels:
    ink, paper = random.integers(0, 120, 3), random.integers(150, 256, 3)
    if random.random() < 0.3:
        ink, paper = paper, ink
    image = Image.new("RGB", (side, side), tuple(int(v) for v in paper))
    draw = ImageDraw.Draw(image)
    size = float(random.uniform(6, 40))
    font = ImageFont.load_default(size)
    letters = "abcdefghijklmnopqrstuvwxyz   ABCDEGOQ0689&@%()8.,"
    y = float(random.uniform(-size, 0))
    while y < side:
        line = "".join(letters[i] for i in random.integers(0, len(letters), 40))
        at = (float(random.uniform(-size, size)), y)
        draw.text(at, line, fill=tuple(int(v) for v in ink), font=font)
        y += size * random.uniform(1.0, 1.5)
    return np.array(image)


def _clouds(side: int, random: np.random.Generator) -> Pixels:
    total = np.zeros((side, side, 3), dtype=np.float32)
    for cells in (2, 5, 11, 23, 47):
        noise = random.normal(0, 1, (cells, cells, 3 if random.random() < 0.5 else 1))
        grown = cv2.resize(noise.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
        total += grown.reshape(side, side, -1) * cells ** -random.uniform(0.2, 1.0)
    image = total * random.uniform(15, 50) + random.uniform(40, 220, 3)
    return np.asarray(np.clip(image, 0, 255), dtype=np.uint8)


def _gradient(side: int, random: np.random.Generator) -> Pixels:
    corners = random.uniform(0, 255, (2, 2, 3)).astype(np.float32)
    return np.asarray(cv2.resize(corners, (side, side)), dtype=np.uint8)


def _weave(side: int, random: np.random.Generator) -> Pixels:
    rows, columns = np.mgrid[:side, :side]
    angle, period = random.uniform(0, np.pi), random.uniform(3, 40)
    wave = np.sin((rows * np.cos(angle) + columns * np.sin(angle)) * 2 * np.pi / period)
    other = np.sin((rows * np.sin(angle) - columns * np.cos(angle)) * 2 * np.pi / period)
    mixed = (wave * other if random.random() < 0.5 else wave)[..., None]
    image = random.uniform(60, 200, 3) + mixed * random.uniform(10, 70, 3)
    image = image + 5 * random.standard_normal(image.shape, np.float32)
    return np.asarray(np.clip(image, 0, 255), dtype=np.uint8)


def _shapes(side: int, random: np.random.Generator) -> Pixels:
    image = np.full((side, side, 3), random.integers(0, 256, 3), dtype=np.uint8)
    skin = np.array([random.uniform(90, 250), random.uniform(60, 200), random.uniform(40, 180)])
    for _ in range(random.integers(3, 25)):
        color = skin if random.random() < 0.4 else random.integers(0, 256, 3)
        fill = tuple(int(v) for v in color)
        at = tuple(int(v) for v in random.integers(0, side, 2))
        half = tuple(int(v) for v in random.integers(2, side // 3, 2))
        if random.random() < 0.5:
            cv2.ellipse(image, at, half, random.uniform(0, 180), 0, 360, fill, -1)
        else:
            cv2.rectangle(image, at, (at[0] + half[0], at[1] + half[1]), fill, -1)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), random.uniform(0.3, 2.5)), dtype=np.uint8)


@dataclass(frozen=True)
class Template:
    """A mask to wear: RGBA pixels, and six points on it ``(6, 2)``: upper edge, then lower edge."""

    name: str
    pixels: Pixels
    points: NDArray[np.float32]


# Where the six points lie on an aligned face: left, nose and right of the upper edge, then of the
# lower one; in pixels of the frame.
WORN = np.array([[36, 92], [80, 82], [124, 92], [44, 132], [80, 154], [116, 132]], np.float32)
# How far down the mask slips, in pixels of the frame: worn, under the nose, under the mouth.
SLIPS = (0.0, 22.0, 46.0)


def load_templates(root: Path) -> list[Template]:
    """Load the templates that ``masks.cfg`` lists."""
    templates: list[Template] = []
    sections = (root / "masks.cfg").read_text(encoding="utf-8").split("[")[1:]
    for section in sections:
        rows = dict(row.split(" = ") for row in section.splitlines()[1:] if " = " in row)
        points = [[float(v) for v in rows[f"mask_{letter}"].split(",")] for letter in "abcdef"]
        with Image.open(root / rows["template"].strip()) as image:
            pixels = np.asarray(image.convert("RGBA"))
        name = section.split("]")[0]
        templates.append(Template(name, pixels, np.array(points, dtype=np.float32)))
    return templates


def masked(photo: FacePhoto, template: Template, random: np.random.Generator) -> Pixels:
    """Put a template on the first face of a photo, now and then too low; returns the pixels."""
    to_photo = align(photo.points[0]).to_photo
    slip = SLIPS[random.choice(3, p=[0.75, 0.15, 0.1])]
    jitter = random.normal(0, 2.0, (6, 2))
    there = (WORN + jitter + [0, slip]) @ to_photo[:, :2].T + to_photo[:, 2]
    system = np.concatenate([template.points, np.ones((6, 1))], 1)
    matrix = np.linalg.lstsq(system, there, rcond=None)[0].T
    height, width = photo.pixels.shape[:2]
    drawn = cv2.warpAffine(template.pixels, matrix, (width, height), flags=cv2.INTER_AREA).astype(
        np.float32
    )
    share = drawn[..., 3:] / 255
    tint = random.uniform(0.5, 1.1) * random.uniform(0.8, 1.2, 3)
    return np.clip(photo.pixels * (1 - share) + drawn[..., :3] * tint * share, 0, 255).astype(
        np.uint8
    )
