"""Seam carving against the PyPI package and against an oracle that tries every seam."""

from itertools import pairwise, product
from math import log2

import numpy as np
import pytest
import seam_carving as peer
from numpy.typing import NDArray
from scipy.ndimage import sobel
from skimage.filters.rank import entropy as local_entropy
from skimage.morphology import footprint_rectangle

from services.worker.defenses.seam_carving import Energy, Order, carve, draw_seams, protect
from services.worker.defenses.seam_carving.energies import COUNT_GAINS, WINDOW_TERMS, fill
from services.worker.defenses.seam_carving.layout import ENTROPY, MARGIN, lay_out, row_stride

PEER_MODES = {"gradient": "backward", "forward": "forward"}


def noise(seed: int, *shape: int, levels: int = 256) -> NDArray[np.uint8]:
    values = np.random.default_rng(seed).integers(0, levels, shape)
    return (values * (255 // (levels - 1))).astype(np.uint8)


@pytest.mark.parametrize("energy", ["gradient", "forward"])
@pytest.mark.parametrize("levels", [2, 4, 256])
@pytest.mark.parametrize(
    ("size", "target"),
    [
        ((40, 37), (23, 19)),
        ((33, 64), (33, 31)),
        ((20, 20), (35, 33)),
        ((31, 18), (16, 52)),
        ((7, 2), (1, 1)),
    ],
)
@pytest.mark.parametrize("channels", [(), (3,)])
def test_equals_the_peer(
    energy: str,
    levels: int,
    size: tuple[int, int],
    target: tuple[int, int],
    channels: tuple[int, ...],
) -> None:
    image = noise(sum(size) + levels, *size, *channels, levels=levels)
    expected = peer.resize(image, target[::-1], energy_mode=PEER_MODES[energy])
    carved = carve(image[None], height=target[0], width=target[1], energy=energy)
    np.testing.assert_array_equal(carved.images[0], expected)


def test_equals_the_peer_height_first_with_a_protected_region() -> None:
    image = noise(5, 30, 28, 3)
    keep = np.zeros((30, 28), dtype=bool)
    keep[5:14, 8:20] = True
    expected = peer.resize(image, (17, 18), order="height-first", keep_mask=keep)
    weights = protect(height=30, width=28, mask=keep, strength=1000)
    carved = carve(image[None], height=18, width=17, order="height_first", weights=weights)
    np.testing.assert_array_equal(carved.images[0], expected)


@pytest.mark.parametrize("energy", ["gradient", "forward"])
def test_costs_above_16_bits_stay_exact(energy: str) -> None:
    image = noise(9, 420, 40, levels=2)  # the cheapest seam costs more than 65,535
    expected = peer.resize(image, (33, 420), energy_mode=PEER_MODES[energy])
    carved = carve(image[None], height=420, width=33, energy=energy)
    np.testing.assert_array_equal(carved.images[0], expected)


def gradient_cost(gray: NDArray[np.int64], seam: tuple[int, ...]) -> int:
    energy = np.abs(sobel(gray, axis=0)) + np.abs(sobel(gray, axis=1))
    return int(sum(energy[row, column] for row, column in enumerate(seam)))


def window_energy(gray: NDArray[np.int64], row: int, column: int) -> int:
    window = gray[max(row - 4, 0) : row + 5, max(column - 4, 0) : column + 5]
    counts = np.unique(window, return_counts=True)[1].tolist()
    terms = sum(round(count * log2(count) * 2**20) for count in counts)
    return ((round(log2(window.size) * 2**20) - terms // window.size) * 4096) // 2**20


def entropy_cost(gray: NDArray[np.int64], seam: tuple[int, ...]) -> int:
    return sum(window_energy(gray, row, column) for row, column in enumerate(seam))


def forward_cost(gray: NDArray[np.int64], seam: tuple[int, ...]) -> int:
    padded = np.pad(gray, ((0, 0), (1, 1)), mode="edge")
    cost = 0
    for row, column in enumerate(seam):
        left, right = padded[row, column], padded[row, column + 2]
        cost += abs(right - left)
        if row:
            above = gray[row - 1, column]
            cost += {-1: abs(above - left), 0: 0, 1: abs(above - right)}[seam[row - 1] - column]
    return int(cost)


def cheapest_seams(gray: NDArray[np.uint8], count: int, energy: str) -> NDArray[np.int32]:
    """Try every connected seam, ``count`` times; energies are computed anew each time."""
    cost = {"gradient": gradient_cost, "entropy": entropy_cost, "forward": forward_cost}[energy]
    left = gray.astype(np.int64)
    columns = np.tile(np.arange(gray.shape[1]), (gray.shape[0], 1))
    order = np.zeros(gray.shape, dtype=np.int32)
    rows = np.arange(gray.shape[0])
    for number in range(1, count + 1):
        seams = [
            seam
            for seam in product(range(left.shape[1]), repeat=left.shape[0])
            if all(abs(a - b) <= 1 for a, b in pairwise(seam))
        ]
        # Of equally cheap seams: leftmost end, then leftmost in the row above, and so on.
        best = np.array(min(seams, key=lambda seam: (cost(left, seam), seam[::-1])))
        order[rows, columns[rows, best]] = number
        stay = np.ones(left.shape, dtype=bool)
        stay[rows, best] = False
        left = left[stay].reshape(len(rows), -1)
        columns = columns[stay].reshape(len(rows), -1)
    return order


@pytest.mark.parametrize("energy", ["gradient", "entropy", "forward"])
@pytest.mark.parametrize("levels", [2, 3, 256])
@pytest.mark.parametrize("seed", [0, 1])
def test_takes_the_seams_that_trying_them_all_finds(energy: str, levels: int, seed: int) -> None:
    gray = noise(seed, 4, 5, levels=levels)
    carved = carve(gray[None], height=4, width=2, energy=energy)
    np.testing.assert_array_equal(carved.seams[0], cheapest_seams(gray, 3, energy))


def best_by_program(energy: NDArray[np.int64]) -> list[int]:
    costs = [energy[0]]
    for row in energy[1:]:
        wide = np.pad(costs[-1], 1, constant_values=2**40)
        costs.append(row + np.minimum(np.minimum(wide[:-2], wide[1:-1]), wide[2:]))
    seam = [int(np.argmin(costs[-1]))]
    for cost in reversed(costs[:-1]):
        low = max(seam[0] - 1, 0)
        seam.insert(0, low + int(np.argmin(cost[low : seam[0] + 2])))
    return seam


@pytest.mark.parametrize("levels", [3, 256])
def test_no_entropy_is_stale_after_a_removal(levels: int) -> None:
    gray = noise(levels, 24, 23, levels=levels)
    rest = gray.astype(np.int64)
    for _ in range(9):
        energy = np.array(
            [[window_energy(rest, i, j) for j in range(rest.shape[1])] for i in range(24)]
        )
        stay = np.ones(rest.shape, dtype=bool)
        stay[np.arange(24), best_by_program(energy)] = False
        rest = rest[stay].reshape(24, -1)
    carved = carve(gray[None], height=24, width=14, energy="entropy")
    np.testing.assert_array_equal(carved.images[0], rest)


def test_entropy_is_that_of_scikit_image() -> None:
    gray = noise(3, 30, 41, levels=6)
    stride = row_stride(41)
    cells, energy = np.zeros(30 * stride, np.uint8), np.zeros(30 * stride, np.uint16)
    lay_out(gray, cells, stride)
    nothing = np.empty(0, np.uint16)
    no_sums = np.empty(0, np.int32)
    fill(cells, energy, nothing, ENTROPY, 30, 41, stride, COUNT_GAINS, WINDOW_TERMS, no_sums)
    ours = energy.reshape(30, stride)[:, MARGIN : MARGIN + 41] / 4096
    theirs = local_entropy(gray, footprint_rectangle((9, 9)))
    np.testing.assert_allclose(ours, theirs, atol=1.01 / 4096)


@pytest.mark.parametrize("energy", ["gradient", "entropy", "forward"])
def test_sources_say_where_each_pixel_came_from(energy: str) -> None:
    images = noise(1, 3, 24, 20, 3)
    carved = carve(images, height=15, width=11, energy=energy)
    for image, out, sources in zip(images, carved.images, carved.sources, strict=True):
        np.testing.assert_array_equal(image.reshape(-1, 3)[sources], out)
    taken = np.ones((3, 24 * 20), dtype=bool)
    np.put_along_axis(taken, carved.sources.reshape(3, -1).astype(np.int64), False, axis=1)
    np.testing.assert_array_equal(carved.seams.reshape(3, -1) != 0, taken)


def test_threads_and_batches_do_not_change_the_result() -> None:
    images = noise(2, 7, 32, 32, 3)
    together = carve(images, height=20, width=20, threads=2)
    for number, image in enumerate(images):
        alone = carve(image[None], height=20, width=20)
        np.testing.assert_array_equal(alone.images[0], together.images[number])
        np.testing.assert_array_equal(alone.seams[0], together.seams[number])


def nearly_alike(seed: int, count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return copies of one picture with one to ten pixels changed, many of them at the border."""
    random = np.random.default_rng(seed)
    slope = np.add.outer(np.arange(height) * 3, np.arange(width) * 2)[..., None]
    base = (slope + random.integers(0, 12, (height, width, 3))).astype(np.uint8)
    images = np.repeat(base[None], count, axis=0)
    for image in images:
        for _ in range(random.integers(1, 11)):
            row = random.choice([0, height - 1, random.integers(height)])
            column = random.choice([0, width - 1, random.integers(width)])
            image[row, column] = random.integers(0, 256, 3)
    return images


@pytest.mark.parametrize("energy", ["entropy", "gradient"])
@pytest.mark.parametrize("target", [(20, 19), (37, 44), (1, 1)])
@pytest.mark.parametrize("order", ["width_first", "height_first"])
def test_candidates_of_an_attack_are_carved_as_each_is_alone(
    energy: Energy, target: tuple[int, int], order: Order
) -> None:
    first, second = nearly_alike(1, 16, 30, 33), nearly_alike(2, 12, 30, 33)
    batch = np.concatenate([first, noise(3, 2, 30, 33, 3), second])
    together = carve(batch, height=target[0], width=target[1], energy=energy, order=order)
    for number, image in enumerate(batch):
        alone = carve(image[None], height=target[0], width=target[1], energy=energy, order=order)
        np.testing.assert_array_equal(alone.images[0], together.images[number])
        np.testing.assert_array_equal(alone.sources[0], together.sources[number])
        np.testing.assert_array_equal(alone.seams[0], together.seams[number])


@pytest.mark.parametrize("levels", [2, 3, 256])
def test_candidates_that_tie_are_carved_as_each_is_alone(levels: int) -> None:
    base = noise(levels, 14, 17, levels=levels)
    batch = np.repeat(base[None], 120, axis=0)
    for number in range(120):
        batch[number, number % 14, number % 17] ^= 255
    together = carve(batch, height=8, width=9, energy="entropy")
    for number, image in enumerate(batch):
        alone = carve(image[None], height=8, width=9, energy="entropy")
        np.testing.assert_array_equal(alone.seams[0], together.seams[number])


def test_the_same_size_returns_identical_bytes_and_the_input_is_left_alone() -> None:
    images = noise(4, 2, 9, 8, 3)
    before = images.copy()
    same = carve(images, height=9, width=8)
    assert same.images.tobytes() == before.tobytes()
    assert not same.seams.any()
    carve(images, height=5, width=12)
    assert images.tobytes() == before.tobytes()


def test_one_pixel_grows_and_stays() -> None:
    images = np.full((1, 1, 1, 3), 7, dtype=np.uint8)
    assert carve(images, height=1, width=1).images.tolist() == images.tolist()
    assert np.all(carve(images, height=2, width=3).images == 7)


def test_a_protected_region_survives() -> None:
    image = noise(8, 40, 40, 3)
    weights = protect(height=40, width=40, boxes=[(10, 12, 26, 30)], strength=30_000)
    carved = carve(image[None], height=28, width=26, weights=weights)
    assert not carved.seams[0, 12:30, 10:26].any()


@pytest.mark.parametrize("energy", ["gradient", "entropy", "forward"])
def test_a_protection_is_stronger_than_any_energy(energy: Energy) -> None:
    """A flat face in a noisy picture is what carving would take first."""
    image = noise(8, 40, 40, 3)
    image[12:30, 10:26] = 90
    free = carve(image[None], height=30, width=30, energy=energy)
    assert free.seams[0, 12:30, 10:26].any()
    weights = protect(height=40, width=40, boxes=[(10, 12, 26, 30)])
    carved = carve(image[None], height=30, width=30, energy=energy, weights=weights)
    assert not carved.seams[0, 12:30, 10:26].any()


def test_seams_are_drawn_where_they_ran() -> None:
    image = noise(6, 12, 12, 3)
    seams = carve(image[None], height=10, width=9).seams[0]
    picture = draw_seams(image, seams)
    np.testing.assert_array_equal(picture[seams == 0], image[seams == 0])
    assert {tuple(color) for color in picture[seams > 0].tolist()} == {(230, 30, 30)}
    assert (seams > 0).sum() == 3 * 12
    assert (seams < 0).sum() == 2 * 9


def test_carving_can_be_canceled() -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        carve(noise(0, 1, 8, 8, 3), height=4, width=4, check_cancel=stop)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"height": 0, "width": 4}, "at least one pixel must stay"),
        ({"height": 4, "width": -1}, "at least one pixel must stay"),
        ({"height": 33, "width": 8}, "too large"),
        ({"height": 4, "width": 4, "energy": "depth"}, "unknown energy"),
        ({"height": 4, "width": 4, "order": "both"}, "unknown order"),
        ({"height": 4, "width": 4, "threads": 0}, "at least one thread"),
        ({"height": 4, "width": 4, "weights": np.zeros((3, 3))}, "does not fit"),
        ({"height": 4, "width": 4, "weights": np.full((8, 8), 0.5)}, "whole numbers"),
        ({"height": 4, "width": 4, "weights": np.full((8, 8), -1)}, "whole numbers"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        carve(noise(0, 1, 8, 8, 3), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 8, 8, 3), dtype=np.float32),
        np.zeros((8, 8), dtype=np.uint8),
        np.zeros((0, 8, 8, 3), dtype=np.uint8),
        np.zeros((1, 8, 8, 4), dtype=np.uint8),
    ],
)
def test_what_is_no_image_is_refused(images: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"carv"):
        carve(images, height=4, width=4)


def test_an_empty_face_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        protect(height=8, width=8, mask=np.zeros((8, 8), dtype=bool))
    with pytest.raises(ValueError, match="empty"):
        protect(height=8, width=8, boxes=[(-5, -5, 0, 3)])
    with pytest.raises(ValueError, match="does not fit"):
        protect(height=8, width=8, mask=np.ones((4, 4), dtype=bool))
    with pytest.raises(ValueError, match="strength"):
        protect(height=8, width=8, mask=np.ones((8, 8), dtype=bool), strength=0)
