"""Finds places for labels beside boxes: never over another box, and no label over another."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Rectangle = tuple[float, float, float, float]  # (x0, y0, x1, y1) in pixels
Size = tuple[float, float]  # width and height
Measure = Callable[[str, int], Size]  # of a text in a font size, with its padding

SHARE_OF_FACE = 0.2  # of the box's shorter side: the font
_SHRINK = 0.8


@dataclass(frozen=True)
class Label:
    """A text in its place. ``font`` is its size in pixels."""

    text: str
    place: Rectangle
    font: int


@dataclass(frozen=True)
class Layout:
    """A label for each box in order; ``is_numbered``: they are numbers, and want a legend."""

    labels: tuple[Label, ...]
    is_numbered: bool


def lay_out(
    boxes: Sequence[Rectangle],
    texts: Sequence[str],
    *,
    size: Size,
    fonts: tuple[int, int],
    measure: Measure,
) -> Layout:
    """Place a text beside each box of a picture of ``size``; numbers where one has no room.

    ``fonts`` are the smallest and the largest size. A number that has no room outside of all boxes
    stands in the corner of its own.
    """
    placed: list[Label] = []
    for index, text in enumerate(texts):
        label = _beside(index, text, boxes, placed, size, fonts, measure)
        if label is None:
            return Layout(_numbers(boxes, size, fonts, measure), is_numbered=True)
        placed.append(label)
    return Layout(tuple(placed), is_numbered=False)


def _numbers(
    boxes: Sequence[Rectangle], size: Size, fonts: tuple[int, int], measure: Measure
) -> tuple[Label, ...]:
    placed: list[Label] = []
    for index, box in enumerate(boxes):
        number = str(index + 1)
        label = _beside(index, number, boxes, placed, size, fonts, measure)
        placed.append(label or _within(number, box, fonts, measure))
    return tuple(placed)


def _beside(
    index: int,
    text: str,
    boxes: Sequence[Rectangle],
    placed: Sequence[Label],
    size: Size,
    fonts: tuple[int, int],
    measure: Measure,
) -> Label | None:
    taken = [*boxes, *(label.place for label in placed)]
    for font in _sizes(boxes[index], fonts):
        for place in _places(boxes[index], measure(text, font), size):
            if not any(overlap(place, other) for other in taken):
                return Label(text, place, font)
    return None


def _sizes(box: Rectangle, fonts: tuple[int, int]) -> Iterator[int]:
    """Yield the font that suits the box, and smaller ones."""
    side = min(box[2] - box[0], box[3] - box[1])
    font = max(fonts[0], min(fonts[1], round(SHARE_OF_FACE * side)))
    while True:
        yield font
        if font == fonts[0]:
            return
        font = max(fonts[0], round(_SHRINK * font))


def _places(box: Rectangle, label: Size, size: Size) -> Iterator[Rectangle]:
    """Yield places that touch the box: above, below, and beside it; within the picture."""
    x0, y0, x1, y1 = box
    width, height = label
    middle = (x0 + x1 - width) / 2
    corners = [
        *((x, y0 - height) for x in (x0, middle, x1 - width)),
        *((x, y1) for x in (x0, middle, x1 - width)),
        *((x1, y) for y in (y0, y1 - height)),
        *((x0 - width, y) for y in (y0, y1 - height)),
    ]
    for left, top in corners:
        # A label above or below may be pushed along the box's edge, none over the box.
        x = left if left in (x1, x0 - width) else max(0.0, min(left, size[0] - width))
        if 0 <= x <= size[0] - width and 0 <= top <= size[1] - height:
            yield (x, top, x + width, top + height)


def _within(text: str, box: Rectangle, fonts: tuple[int, int], measure: Measure) -> Label:
    """Place a number in the upper left corner of its own box."""
    font = next(iter(_sizes(box, fonts)))
    width, height = measure(text, font)
    x, y = max(0.0, box[0]), max(0.0, box[1])
    return Label(text, (x, y, x + width, y + height), font)


def overlap(one: Rectangle, other: Rectangle) -> bool:
    """Whether two rectangles share more than an edge."""
    return (
        one[0] < other[2] - 0.01
        and other[0] < one[2] - 0.01
        and one[1] < other[3] - 0.01
        and other[1] < one[3] - 0.01
    )
