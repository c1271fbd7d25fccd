"""What an image may be at most, and how it is refused."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """Caps on one image. Pixels are counted from the header, before anything is decoded."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 40_000_000
    max_side: int = 20_000


class ImageRejectedError(Exception):
    """An image that is refused; ``slug`` is its problem type."""

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.slug = slug
        self.detail = detail


def corrupt(detail: str) -> ImageRejectedError:
    """Build the refusal of a damaged image."""
    return ImageRejectedError("corrupt-image", f"The image is damaged or truncated: {detail}.")


def unsupported(detail: str) -> ImageRejectedError:
    """Build the refusal of a kind of image that is not read."""
    return ImageRejectedError("unsupported-image-type", detail)


def check_size(width: int, height: int, limits: ImageLimits) -> None:
    """Refuse an image of too many pixels, or of none."""
    if width < 1 or height < 1:
        raise corrupt("it has no pixels")
    if width * height > limits.max_pixels:
        raise ImageRejectedError(
            "image-too-many-pixels",
            f"The image has {width} x {height} pixels; the limit is {limits.max_pixels}.",
        )
    if max(width, height) > limits.max_side:
        raise ImageRejectedError(
            "image-too-many-pixels",
            f"The image has {width} x {height} pixels; a side may have {limits.max_side}.",
        )


@dataclass(frozen=True)
class Stripped:
    """An image without metadata, and the orientation (1 to 8) that its EXIF asked for.

    ``is_still`` tells pixels that can be stored as they are from those to be decoded and encoded
    again. ``notes`` say what was left out or changed.
    """

    data: bytes
    orientation: int = 1
    is_still: bool = True
    notes: tuple[str, ...] = ()


def share(missing: float) -> str:
    """Say how much of an image is missing: at least one percent, and never all of it."""
    return f"about {min(99, max(1, round(100 * missing)))} % of its pixels are missing"


def first_of(count: int, what: str) -> tuple[str, ...]:
    """Note that only the first of several frames or pages was taken; of one: no note."""
    if count < 2:
        return ()
    left = "1 was" if count == 2 else f"{count - 1} were"
    return (f"the first of {count} {what}s was taken, {left} left out",)
