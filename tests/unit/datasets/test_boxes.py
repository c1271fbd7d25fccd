"""Boxes against their photo."""

import math

import numpy as np
import pytest
from PIL import Image, ImageOps

from services.worker.datasets.boxes import (
    MOST_BOXES,
    Annotation,
    OtherPhotoError,
    Photo,
    RawBox,
    fit,
    frame_told,
)
from services.worker.datasets.report import Change, Reason


def annotation(*corners: tuple[float, float, float, float], **fields: object) -> Annotation:
    boxes = tuple(RawBox("mask", *four) for four in corners)
    return Annotation("a.xml", boxes, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_as_the_pixels_do(orientation: int) -> None:
    """The reference is Pillow's own turning of a picture with the box drawn white."""
    x0, y0, x1, y1 = 5, 8, 17, 11
    pixels = np.zeros((24, 40), np.uint8)
    pixels[y0:y1, x0:x1] = 255
    drawn = Image.fromarray(pixels)
    drawn.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(drawn))
    rows, columns = np.nonzero(upright)
    photo = Photo(upright.shape[1], upright.shape[0], orientation)

    (box,) = fit(annotation((x0, y0, x1, y1)), photo, "stored").boxes

    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert (box.x0, box.y0, box.x1, box.y1) == found


@pytest.mark.parametrize(
    ("size", "frame"),
    [((400, 300), "stored"), ((300, 400), "upright"), ((800, 600), "stored"), ((0, 0), None)],
)
def test_the_stated_size_tells_the_frame(size: tuple[float, float], frame: str | None) -> None:
    assert frame_told(annotation((1, 1, 5, 5), size=size), Photo(300, 400, 6)) == frame
    assert frame_told(annotation((1, 1, 5, 5), size=size), Photo(400, 300, 3)) is None
    assert frame_told(annotation((1, 1, 5, 5), size=size), Photo(400, 300, 1)) is None


def test_a_box_beyond_one_frame_tells_the_other() -> None:
    assert frame_told(annotation((310, 10, 390, 90)), Photo(300, 400, 6)) == "stored"
    assert frame_told(annotation((10, 310, 90, 390)), Photo(300, 400, 6)) == "upright"


def test_boxes_of_another_size_are_scaled_side_by_side() -> None:
    fitted = fit(annotation((100, 100, 400, 200), size=(1000, 400)), Photo(500, 100, 1), "upright")
    (box,) = fitted.boxes
    assert (box.x0, box.y0, box.x1, box.y1) == (50, 25, 200, 50)
    assert fitted.changes == (Change.SCALED,)


def test_a_scaled_box_of_a_turned_photo() -> None:
    fitted = fit(annotation((0, 0, 100, 40), size=(800, 600)), Photo(300, 400, 6), "stored")
    (box,) = fitted.boxes
    # Half the size, then a quarter turn to the right: the upper left corner goes to the right.
    assert (box.x0, box.y0, box.x1, box.y1) == (280, 0, 300, 50)
    assert set(fitted.changes) == {Change.TURNED, Change.SCALED}


def test_a_stated_size_that_its_own_boxes_contradict_is_not_believed() -> None:
    fitted = fit(annotation((10, 10, 400, 300), size=(64, 64)), Photo(512, 512, 1), "upright")
    assert [(box.x1, box.y1) for box in fitted.boxes] == [(400, 300)]


def test_a_photo_that_was_turned_since_is_told() -> None:
    with pytest.raises(OtherPhotoError, match="300 x 400 pixels, and the photo has 400 x 300"):
        fit(annotation((10, 310, 90, 390), size=(300, 400)), Photo(400, 300, 1), "upright")


@pytest.mark.parametrize(
    ("corners", "reason"),
    [
        ((10, 10, 514.6, 90), None),
        ((-3, -3, 90, 90), None),
        ((90, 10, 130, 90), Reason.OUTSIDE),  # a quarter of it is inside
        ((200, 10, 290, 90), Reason.OUTSIDE),
        ((1e308, -1e308, 1.5e308, 1e308), Reason.OUTSIDE),
        ((10, 10, 10, 90), Reason.NO_AREA),
        ((90, 10, 10, 90), Reason.NO_AREA),
        ((math.nan, 10, 20, 90), Reason.NOT_NUMBERS),
        ((0, 0, math.inf, 90), Reason.NOT_NUMBERS),
    ],
)
def test_one_bad_box_costs_itself(
    corners: tuple[float, float, float, float], reason: Reason | None
) -> None:
    width = 512 if corners[2] == 514.6 else 100
    fitted = fit(annotation((1, 1, 50, 50), corners), Photo(width, 100, 1), "upright")
    assert [left for left, _ in fitted.left_out] == ([] if reason is None else [reason])
    assert len(fitted.boxes) == 2 - len(fitted.left_out)
    for box in fitted.boxes:
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= 100


def test_too_many_boxes_are_counted() -> None:
    fitted = fit(annotation(*[(1, 1, 5, 5)] * (MOST_BOXES + 3)), Photo(9, 9, 1), "upright")
    assert len(fitted.boxes) == MOST_BOXES
    assert [reason for reason, _ in fitted.left_out] == [Reason.TOO_MANY] * 3
