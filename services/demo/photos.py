"""The demo's photos: NASA's portrait of Eileen Collins (public domain), bare and masked."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from skimage import data

# The portrait's lower face, in its 512x512 pixels: nose bridge, cheeks, jaw, chin.
_OUTLINE = (
    (186, 121),
    (223, 104),
    (261, 121),
    (259, 152),
    (244, 174),
    (224, 182),
    (203, 174),
    (188, 152),
)
_CLOTH, _PLEAT, _STRAP = (173, 205, 228), (140, 176, 203), (235, 240, 245)


def portrait() -> Image.Image:
    """Return the portrait as it is."""
    return Image.fromarray(np.asarray(data.astronaut()))


def masked_portrait() -> Image.Image:
    """Return the portrait with a surgical mask drawn on; drawn large for smooth edges."""
    scale = 4
    picture = portrait()
    layer = Image.new("RGBA", (picture.width * scale, picture.height * scale))
    draw = ImageDraw.Draw(layer)
    outline = [(x * scale, y * scale) for x, y in _OUTLINE]
    for ear, corners in (((177, 112), (0, 7)), ((270, 112), (2, 3))):
        for corner in corners:
            end = (ear[0] * scale, ear[1] * scale)
            draw.line((outline[corner], end), fill=(*_STRAP, 255), width=2 * scale)
    draw.polygon(outline, fill=(*_CLOTH, 255), outline=(*_PLEAT, 255), width=scale)
    for pleat in range(3):
        y = (130 + 13 * pleat) * scale
        draw.line((190 * scale, y, 257 * scale, y), fill=(*_PLEAT, 255), width=2 * scale)
    layer = layer.resize(picture.size, Image.Resampling.LANCZOS)
    return Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")


def group() -> Image.Image:
    """Return four people of different sizes, two of them masked."""
    canvas = Image.new("RGB", (1000, 560), (206, 212, 216))
    head = (110, 0, 350, 300)
    people: Sequence[tuple[Image.Image, int, int, int, bool]] = (
        (portrait(), 20, 40, 300, False),
        (masked_portrait(), 300, 120, 240, True),
        (portrait(), 530, 60, 200, True),
        (masked_portrait(), 730, 100, 250, False),
    )
    for source, x, y, width, mirrored in people:
        cut = source.crop(head)
        if mirrored:
            cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        height = round(cut.height * width / cut.width)
        canvas.paste(cut.resize((width, height), Image.Resampling.LANCZOS), (x, y))
    return canvas


def encoded(picture: Image.Image) -> bytes:
    """Return a photo as JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
