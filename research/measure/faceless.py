"""Pictures without faces to judge a face finder by; none is made as those that it learned from."""

from pathlib import Path

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from skimage import data

from services.worker.faces.crops import Pixels

TEXT = (
    "people wear masks in crowded places because the air they share carries what they breathe out "
    "and a mask stops most of it while gowns gloves and doors stop the rest of what is carried on "
    "hands 2019 2020 2021 18 % 0 8 Oslo Bologna Quito ( see page 88 ) cooking book moon"
)
WORDS = TEXT.split()


def faceless_pictures(templates: Path, *, seed: int = 0) -> list[tuple[str, Pixels]]:
    """Return 50 pictures by name: pages of print, skies, textures, and masks that nobody wears."""
    random = np.random.default_rng(seed)
    pages = [("print", page(random)) for _ in range(20)]
    skies = [("sky", sky(random)) for _ in range(8)]
    shots = [getattr(data, name)() for name in ("brick", "grass", "gravel", "coins", "page")]
    textures = [("texture", np.stack([shot] * 3, 2)) for shot in shots]
    textures += [("texture", weave(random)) for _ in range(7)]
    paths = sorted(templates.glob("*.png"))
    masks = [("mask", product(paths[i], random)) for i in random.permutation(len(paths))[:10]]
    return [*pages, *skies, *textures, *masks]


def page(random: np.random.Generator) -> Pixels:
    """Print in one or two columns, with a heading, in a serif or sans-serif face."""
    family = ("DejaVu Serif", "DejaVu Sans", "DejaVu Sans Mono")[random.integers(3)]
    path = font_manager.findfont(family)
    width, height = int(random.integers(300, 900)), int(random.integers(300, 900))
    paper = tuple(int(v) for v in random.integers(215, 256, 3))
    image = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(image)
    size = int(random.integers(9, 26))
    font, large = ImageFont.truetype(path, size), ImageFont.truetype(path, 2 * size)
    draw.text((size, size), " ".join(random.choice(WORDS, 5)), fill=(20, 20, 30), font=large)
    columns = int(random.integers(1, 3))
    for column in range(columns):
        left = size + column * width // columns
        for y in range(4 * size, height - size, round(1.3 * size)):
            line = ""
            while draw.textlength(line, font=font) < width / columns - 4 * size:
                line += " " + str(random.choice(WORDS))
            draw.text((left, y), line, fill=(25, 25, 25), font=font)
    return np.array(image)


def sky(random: np.random.Generator) -> Pixels:
    """A blue or red gradient with soft clouds over a dark ground."""
    width, height = int(random.integers(300, 900)), int(random.integers(200, 700))
    top, low = random.uniform(0, 160, 3), random.uniform(120, 255, 3)
    rows = np.linspace(0, 1, height)[:, None, None]
    image = Image.fromarray(
        np.broadcast_to(top + (low - top) * rows, (height, width, 3)).astype(np.uint8)
    )
    cloud = Image.new("L", (width, height))
    draw = ImageDraw.Draw(cloud)
    for _ in range(int(random.integers(5, 40))):
        x, y = float(random.uniform(0, width)), float(random.uniform(0, height * 0.7))
        reach = random.uniform(10, 90, 2)
        draw.ellipse((x - reach[0], y - reach[1] / 2, x + reach[0], y + reach[1] / 2), fill=230)
    cloud = cloud.filter(ImageFilter.GaussianBlur(float(random.uniform(4, 15))))
    image.paste(Image.new("RGB", (width, height), "white"), (0, 0), cloud)
    ImageDraw.Draw(image).rectangle((0, int(height * 0.85), width, height), fill=(40, 50, 40))
    return np.array(image)


def weave(random: np.random.Generator) -> Pixels:
    """Checks or dots of two colors."""
    side, cell = int(random.integers(250, 700)), int(random.integers(6, 60))
    rows, columns = np.mgrid[:side, :side]
    if random.random() < 0.5:
        one = (rows // cell + columns // cell) % 2 == 0
    else:
        one = np.hypot(rows % cell - cell / 2, columns % cell - cell / 2) < cell / 3
    colors = random.uniform(0, 255, (2, 3))
    noise = random.normal(0, 6, (side, side, 3))
    return np.clip(np.where(one[..., None], *colors) + noise, 0, 255).astype(np.uint8)


def product(path: Path, random: np.random.Generator) -> Pixels:
    """A mask that nobody wears, on a plain ground."""
    side = int(random.integers(250, 600))
    color = tuple(int(v) for v in random.integers(90, 256, 3))
    image = Image.new("RGB", (side, side), color)
    with Image.open(path) as opened:
        mask = opened.convert("RGBA")
    scale = side * float(random.uniform(0.3, 0.8)) / max(mask.size)
    mask = mask.resize((round(mask.width * scale), round(mask.height * scale)))
    place = ((side - mask.width) // 2, (side - mask.height) // 2)
    image.paste(mask, place, mask)
    return np.array(image)
