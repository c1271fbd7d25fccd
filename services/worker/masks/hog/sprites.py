"""The state of MacDonald (2020): six face-like sprites, each at a place, turned and sized."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from services.worker.masks.hog.detector import WINDOW, Picture
from services.worker.masks.hog.drawing import face_sprite
from services.worker.masks.hog.pattern import State, check_canvas

MOST_SPRITES = 500
TELEPORT = 0.1  # share of the moves that put a sprite anywhere


@dataclass(frozen=True, kw_only=True)
class Sprites:
    """White strokes of faces on black; where they overlap, the brighter one shows.

    A state is float64 ``(count, 4)``: ``x`` and ``y`` of the middle in pixels, rotation in radians
    within ``turn`` either way, and the sprite's side in pixels, between ``smallest`` and
    ``largest``. The default canvas and count are the paper's: 24 numbers on 766 x 766. Raises
    ``ValueError`` for sizes out of range.
    """

    count: int = 6
    height: int = 766
    width: int = 766
    smallest: float = 96.0
    largest: float = 400.0
    turn: float = math.pi

    def __post_init__(self) -> None:
        check_canvas(self.height, self.width, WINDOW)
        if not 1 <= self.count <= MOST_SPRITES:
            raise ValueError(f"there are 1 to {MOST_SPRITES} sprites, not {self.count}")
        if not 8 <= self.smallest <= self.largest <= 2 * max(self.height, self.width):
            raise ValueError(f"sprites cannot have {self.smallest} to {self.largest} pixels")
        if not 0 <= self.turn <= math.pi:
            raise ValueError(f"sprites turn by 0 to pi, not {self.turn}")

    def start(self, rng: np.random.Generator) -> State:
        """Put every sprite anywhere, at any angle, in any size."""
        return np.stack([self._anywhere(rng) for _ in range(self.count)])

    def propose(self, state: State, rng: np.random.Generator, heat: float) -> State:
        """Move, turn and size one sprite a little; now and then put it anywhere."""
        moved = np.array(state, dtype=np.float64)
        chosen = int(rng.integers(self.count))
        if rng.random() < TELEPORT:
            moved[chosen] = self._anywhere(rng)
            return moved
        sprite = moved[chosen]
        reach = 0.02 + 0.2 * heat
        sprite[:2] += rng.normal(0, reach * self.smallest, 2)
        sprite[2] += rng.normal(0, reach * self.turn)
        sprite[3] *= math.exp(rng.normal(0, reach))
        moved[chosen] = self._within(sprite)
        return moved

    def render(self, state: State) -> Picture:
        """Draw the sprites, uint8 ``(height, width, 3)``."""
        canvas = Image.new("L", (self.width, self.height))
        source = Image.fromarray(face_sprite())
        for x, y, rotation, side in np.asarray(state, dtype=np.float64):
            canvas = _stamped(canvas, source, x, y, rotation, side)
        gray = np.asarray(canvas)
        return np.repeat(gray[..., None], 3, axis=2)

    def _anywhere(self, rng: np.random.Generator) -> NDArray[np.float64]:
        size = math.exp(rng.uniform(math.log(self.smallest), math.log(self.largest)))
        rotation = rng.uniform(-self.turn, self.turn)
        return np.array([rng.uniform(0, self.width), rng.uniform(0, self.height), rotation, size])

    def _within(self, sprite: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = np.clip(sprite[:2], 0, (self.width, self.height))
        rotation = sprite[2]
        if self.turn == math.pi:
            rotation = (rotation + math.pi) % (2 * math.pi) - math.pi
        rotation = np.clip(rotation, -self.turn, self.turn)
        return np.array([x, y, rotation, np.clip(sprite[3], self.smallest, self.largest)])


def _stamped(
    canvas: Image.Image, source: Image.Image, x: float, y: float, rotation: float, side: float
) -> Image.Image:
    """Return the canvas with a sprite whose middle is at ``x, y``."""
    pixels = max(1, round(side))
    # Reduced first: the turning below takes four neighbors and would skip strokes.
    sized = source.resize((pixels, pixels), Image.Resampling.BICUBIC)
    cos, sin = math.cos(rotation), math.sin(rotation)
    reach = math.ceil(pixels * (abs(cos) + abs(sin)) / 2) + 1
    left, top = math.floor(x) - reach, math.floor(y) - reach
    middle = pixels / 2
    across, down = left - x, top - y
    inverse = (
        *(cos, sin, middle + cos * across + sin * down),
        *(-sin, cos, middle - sin * across + cos * down),
    )
    size = (2 * reach + 1, 2 * reach + 1)
    turned = sized.transform(size, Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR)
    area = (left, top, left + size[0], top + size[1])
    canvas.paste(ImageChops.lighter(canvas.crop(area), turned), area[:2])
    return canvas
