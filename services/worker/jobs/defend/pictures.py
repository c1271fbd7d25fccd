"""Pictures of a ``defend`` job: captions of faces, and marks around repaired pixels."""

from services.worker.faces.crops import Pixels
from shared.results.defend import Labeled, SuspiciousPixel


def caption(labeled: Labeled) -> str:
    """Return a face's label with its probability."""
    return f"{labeled.label.replace('_', ' ')} {labeled.probabilities[labeled.label]:.0%}"


def mark_pixels(face: Pixels, pixels: list[SuspiciousPixel], step: str) -> Pixels:
    """Draw a frame around each pixel that was painted over."""
    if step != "pixel_repair" or not pixels:
        return face
    picture = face.copy()
    for pixel in pixels:
        top, left = max(0, pixel.y - 2), max(0, pixel.x - 2)
        inside = picture[pixel.y, pixel.x].copy()
        picture[top : pixel.y + 3, left : pixel.x + 3] = (230, 159, 0)
        picture[pixel.y, pixel.x] = inside
    return picture
