"""Labels on group photos: sized by their face, over no other, numbers where there is no room."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from services.worker.jobs.kit.labels import Layout, Rectangle, lay_out, overlap
from services.worker.jobs.kit.pictures import Mark, draw_marks

SIZE = (800, 600)
TEXT = "without mask 98%"


def measured(text: str, font: int) -> tuple[float, float]:
    return 0.6 * font * len(text) + 4, font + 4.0


def laid_out(boxes: list[Rectangle]) -> Layout:
    return lay_out(boxes, [TEXT] * len(boxes), size=SIZE, fonts=(11, 30), measure=measured)


def grid(columns: int, rows: int, side: float) -> list[Rectangle]:
    """Boxes in the middles of as many cells."""
    width, height = SIZE[0] / columns, SIZE[1] / rows
    return [
        (
            (x + 0.5) * width - side / 2,
            (y + 0.5) * height - side / 2,
            (x + 0.5) * width + side / 2,
            (y + 0.5) * height + side / 2,
        )
        for y in range(rows)
        for x in range(columns)
    ]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 780), st.integers(0, 580), st.integers(4, 400), st.integers(4, 400)
        ),
        min_size=1,
        max_size=60,
    )
)
def test_no_label_lies_over_another_face_or_label(
    corners: list[tuple[int, int, int, int]],
) -> None:
    boxes = [(x, y, x + width, y + height) for x, y, width, height in corners]
    layout = laid_out(boxes)
    assert len(layout.labels) == len(boxes)
    for number, label in enumerate(layout.labels):
        assert label.text == (str(number + 1) if layout.is_numbered else TEXT)
        is_within = overlap(label.place, boxes[number])
        assert layout.is_numbered or not is_within
        if is_within:
            continue  # there was no room elsewhere: it stands in its own corner
        others = [*boxes[:number], *boxes[number + 1 :]]
        before = [one.place for one in layout.labels[:number] if one is not label]
        assert not any(overlap(label.place, other) for other in others + before)
        assert 0 <= label.place[0] <= label.place[2] <= SIZE[0]
        assert 0 <= label.place[1] <= label.place[3] <= SIZE[1]


def test_labels_are_sized_by_their_faces() -> None:
    layout = laid_out([(50, 100, 90, 140), (200, 100, 320, 220), (450, 100, 750, 400)])
    assert [label.font for label in layout.labels] == [11, 24, 30]
    assert not layout.is_numbered


def test_faces_with_room_around_them_have_their_texts() -> None:
    assert not laid_out(grid(4, 5, 60)).is_numbered


def test_faces_without_room_have_numbers_beside_them() -> None:
    boxes = grid(10, 6, 78)
    layout = laid_out(boxes)
    assert [label.text for label in layout.labels] == [str(n + 1) for n in range(60)]
    assert not any(overlap(label.place, box) for label in layout.labels for box in boxes)


def test_faces_edge_to_edge_have_their_numbers_within() -> None:
    boxes = grid(8, 6, 100)
    for box, label in zip(boxes[9:15], laid_out(boxes).labels[9:15], strict=True):
        assert label.place[:2] == box[:2]


@pytest.mark.parametrize("count", [1, 60])
def test_a_legend_is_added_below_the_picture_where_there_are_numbers(count: int) -> None:
    picture = np.full((600, 800, 3), 127, np.uint8)
    boxes = grid(10, 6, 78)[:count]
    drawn = Image.open(io.BytesIO(draw_marks(picture, [Mark(box, TEXT, 0) for box in boxes])))
    assert drawn.width == 800
    assert (drawn.height > 600) == (count == 60)
    pixels = np.asarray(drawn).astype(int)
    for x0, y0, x1, y1 in boxes:  # the faces themselves can be seen
        inside = pixels[round(y0) + 9 : round(y1) - 9, round(x0) + 9 : round(x1) - 9]
        assert np.abs(inside - 127).max() < 30
    if count == 60:
        legend = pixels[606:]
        assert (legend.min(2) < 90).any()
        assert (legend > 240).all(2).mean() > 0.5
