"""What an image may be at most, and how it is refused."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """Caps on one image. Pixels are counted from the header, before anything is decoded."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 40_000_000


class ImageRejectedError(Exception):
    """An image that is refused; ``slug`` is its problem type."""

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.slug = slug
        self.detail = detail


def corrupt(detail: str) -> ImageRejectedError:
    """Build the refusal of a damaged image."""
    return ImageRejectedError("corrupt-image", f"The image is damaged or truncated: {detail}.")
