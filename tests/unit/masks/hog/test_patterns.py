"""Where sprites and cells of color lie, and what the moves may change."""

import math
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.worker.faces.boxes import overlaps
from services.worker.masks.hog.detector import detect
from services.worker.masks.hog.drawing import draw_face, face_sprite, hog_strokes
from services.worker.masks.hog.grid import ColorGrid
from services.worker.masks.hog.sprites import Sprites

SPRITES = Sprites(count=2, height=240, width=320, smallest=90, largest=160)
GRID = ColorGrid(height=50, width=70, cell=8)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def alone(*sprite: float) -> Any:
    return Sprites(count=1, height=240, width=320).render(np.array([sprite]))[..., 0]


def sized(side: int) -> Any:
    picture = Image.fromarray(face_sprite()).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def test_a_sprite_lies_where_its_numbers_say() -> None:
    expected = np.zeros((240, 320), dtype=np.uint8)
    expected[100 - 60 : 100 + 60, 180 - 60 : 180 + 60] = sized(120)

    assert np.array_equal(alone(180, 100, 0, 120), expected)


@pytest.mark.parametrize(("quarters", "clockwise"), [(1, -1), (2, 2), (-1, 1)])
def test_a_turned_sprite_is_the_picture_turned(quarters: int, clockwise: int) -> None:
    drawn = alone(180, 100, quarters * math.pi / 2, 120)

    turned = np.rot90(sized(120), clockwise).astype(int)
    assert np.abs(drawn[40:160, 120:240].astype(int) - turned).max() <= 2
    assert drawn.sum() == pytest.approx(turned.sum(), rel=0.02)


def test_a_sprite_at_any_angle_keeps_its_light_and_its_reach() -> None:
    drawn = alone(160, 120, 0.7, 120).astype(float)

    assert drawn.sum() == pytest.approx(sized(120).sum(), rel=0.02)
    down, across = np.nonzero(drawn)
    assert np.hypot(down - 120, across - 160).max() <= 120 / math.sqrt(2) + 2


def test_where_sprites_overlap_the_brighter_one_shows() -> None:
    state = np.array([[150, 110, 0.4, 120], [180, 130, -1.0, 100]])

    both = SPRITES.render(state)

    apart = [alone(*sprite) for sprite in state]
    assert np.array_equal(both[..., 0], np.maximum(*apart))
    assert np.array_equal(both[..., 0], both[..., 2])


def test_what_hangs_over_the_edge_is_cut_off() -> None:
    drawn = alone(0, 120, 0, 120)

    assert np.array_equal(drawn[60:180, :60], sized(120)[:, 60:])
    assert not drawn[:, 60:].any()


def test_dlib_takes_a_sprite_for_a_face() -> None:
    found = detect(Sprites(count=1, height=240, width=320).render(np.array([[160, 120, 0, 160]])))

    assert len(found) == 1
    assert overlaps(found.boxes, (80, 40, 240, 200))[0] > 0.3


@pytest.mark.parametrize("turn", [math.pi, 0.3])
def test_sprites_stay_within_their_ranges(turn: float) -> None:
    pattern = Sprites(count=3, height=240, width=320, smallest=90, largest=160, turn=turn)
    stream, state = rng(), pattern.start(rng(1))
    for _ in range(300):
        before, moved = state.copy(), pattern.propose(state, stream, stream.random())
        assert np.array_equal(state, before), "a state is never changed in place"
        assert (moved != state).any(axis=1).sum() == 1, "one sprite moves"
        state = moved
        x, y, rotation, side = state.T
        assert ((x >= 0) & (x <= 320) & (y >= 0) & (y <= 240)).all()
        assert (np.abs(rotation) <= turn).all()
        assert ((side >= 90) & (side <= 160)).all()


def test_moves_get_smaller_as_it_cools() -> None:
    state = np.array([[160.0, 120.0, 0.0, 120.0]] * 2)
    hot, cold = (
        np.median([np.abs(SPRITES.propose(state, rng(k), heat) - state).sum() for k in range(80)])
        for heat in (1.0, 0.0)
    )

    assert cold < hot / 5


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"height": 60}, "sides of 80 to"),
        ({"width": 5000}, "sides of 80 to"),
        ({"count": 0}, "1 to 500 sprites"),
        ({"smallest": 200.0, "largest": 100.0}, "cannot have"),
        ({"largest": 5000.0}, "cannot have"),
        ({"turn": 4.0}, "turn by 0 to pi"),
    ],
)
def test_sprites_refuse_numbers_out_of_range(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Sprites(**wrong)


def test_a_cell_is_a_square_of_its_color_and_the_last_ones_are_cut() -> None:
    assert GRID.shape == (7, 9)
    state = np.zeros((7, 9, 3), dtype=np.uint8)
    state[2, 3], state[6, 8] = (10, 20, 30), (200, 100, 0)

    drawn = GRID.render(state)

    assert drawn.shape == (50, 70, 3)
    expected = np.zeros((50, 70, 3), dtype=np.uint8)
    expected[16:24, 24:32] = (10, 20, 30)
    expected[48:50, 64:70] = (200, 100, 0)
    assert np.array_equal(drawn, expected)


def test_a_tile_repeats() -> None:
    pattern = ColorGrid(height=50, width=70, cell=5, tile=(4, 3))
    state = pattern.start(rng())

    drawn = pattern.render(state)

    assert state.shape == (4, 3, 3)
    rows, columns = np.indices((50, 70))
    assert np.array_equal(drawn, state[rows // 5 % 4, columns // 5 % 3])


def test_a_mirrored_grid_stays_symmetric() -> None:
    pattern = ColorGrid(height=48, width=72, cell=8, mirror=True)
    stream = rng()
    state = pattern.start(stream)
    for _ in range(50):
        state = pattern.propose(state, stream, 0.5)
        drawn = pattern.render(state)
        assert np.array_equal(drawn, drawn[:, ::-1])


def test_a_move_changes_one_rectangle() -> None:
    stream, state = rng(), GRID.start(rng(1))
    changes = 0
    for _ in range(100):
        before, moved = state.copy(), GRID.propose(state, stream, 0.6)
        assert np.array_equal(state, before), "a state is never changed in place"
        changed = (moved != state).any(axis=2)
        # All that changed lies in rows and columns of a rectangle of at most half the grid.
        assert changed.any(axis=1).sum() <= 1 + round(0.6 * 7 / 2)
        assert changed.any(axis=0).sum() <= 1 + round(0.6 * 9 / 2)
        changes += bool(changed.any())
        state = moved
    assert changes > 90
    cold = (GRID.propose(state, stream, 0.0) != state).any(axis=2)
    assert cold.sum() <= 1


def test_a_grid_begins_as_noise_as_gray_or_as_a_face() -> None:
    assert np.array_equal(GRID.start(rng(3)), GRID.start(rng(3)))
    assert not np.array_equal(GRID.start(rng(3)), GRID.start(rng(4)))
    assert (ColorGrid(begin="gray").start(rng()) == 128).all()
    face = ColorGrid(height=160, width=160, cell=4, begin="face")
    assert len(detect(face.render(face.start(rng())))) == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"height": 8}, "sides of 16 to"),
        ({"cell": 0}, "cells of 0"),
        ({"height": 40, "cell": 30}, "cells of 30"),
        ({"tile": (1, 4)}, "a tile has 2 to"),
        ({"tile": (4, 400)}, "a tile has 2 to"),
        ({"begin": "stars"}, "begins as one of"),
    ],
)
def test_a_grid_refuses_numbers_out_of_range(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ColorGrid(**wrong)


def test_the_drawn_face_is_one_to_dlib_and_so_are_its_strokes() -> None:
    for gray in (draw_face(200), np.pad(np.kron(face_sprite(), np.ones((2, 2), "u1")), 40)):
        found = detect(np.repeat(gray[..., None], 3, axis=2))
        assert len(found) == 1


@pytest.mark.parametrize("along", [0, 1])
def test_a_stroke_runs_along_its_edge(along: int) -> None:
    steps = np.arange(24, dtype=np.uint8) * 10
    ramp = np.broadcast_to(steps if along == 0 else steps[:, None], (24, 24))

    drawn = hog_strokes(ramp, cell=24)

    light = drawn / drawn.sum()
    spread = [float((light * (axis - 11.5) ** 2).sum()) for axis in np.indices(drawn.shape)]
    assert drawn.max() > 100
    assert spread[along] > 10 * spread[1 - along]
