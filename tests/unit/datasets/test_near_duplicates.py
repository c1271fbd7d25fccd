"""Near-duplicates are found across size, coding and light, and nothing else is."""

import io

import numpy as np
from PIL import Image
from skimage import data

from services.worker.datasets.near_duplicates import near_duplicate_groups, picture_hash


def face(x: int = 0) -> Image.Image:
    return Image.fromarray(data.astronaut()).crop((150 + x, 0, 350 + x, 200))


def test_copies_in_other_sizes_codings_and_light_share_a_group() -> None:
    original = face()
    coded = io.BytesIO()
    original.save(coded, "JPEG", quality=30)
    brighter = Image.fromarray((np.asarray(original) * 0.85 + 20).astype(np.uint8))
    pictures = [original, original.resize((97, 97)), Image.open(coded), brighter]
    hashes = [picture_hash(np.asarray(picture.convert("RGB"))) for picture in pictures]

    assert near_duplicate_groups(hashes) == [0, 0, 0, 0]


def test_other_pictures_do_not() -> None:
    pictures = [face(), face(100), Image.fromarray(data.chelsea()).crop((0, 0, 200, 200))]
    hashes = [picture_hash(np.asarray(picture)) for picture in pictures]

    assert near_duplicate_groups(hashes) == [0, 1, 2]


def test_flat_pictures_are_told_apart_by_color() -> None:
    flat = [np.full((20, 20, 3), color, np.uint8) for color in ((200, 0, 0), (0, 200, 0))]
    assert near_duplicate_groups([picture_hash(picture) for picture in flat]) == [0, 1]


def test_groups_are_closed_and_numbered_by_their_first_picture() -> None:
    generator = np.random.default_rng(0)
    thumbnail = np.zeros((64, 3), np.int16)
    first, other = 0, int(generator.integers(2**62, 2**63))
    near = 0b11111  # five bits from the first, ten from the last
    hashes = [(other, thumbnail), (first, thumbnail), (0b1111111111, thumbnail), (near, thumbnail)]

    assert near_duplicate_groups(hashes) == [0, 1, 1, 1]


def test_groups_are_those_of_comparing_every_pair() -> None:
    """The reference compares pair by pair, and joins until nothing changes."""
    random = np.random.default_rng(3)
    colors = random.integers(0, 40, (60, 64, 3)).astype(np.int16)
    bits = random.integers(0, 2**9, 60)
    hashes = [(int(value), thumbnail) for value, thumbnail in zip(bits, colors, strict=True)]

    def alike(one: int, other: int) -> bool:
        difference = colors[one] - colors[other]
        shift = difference.mean()
        close = np.abs(difference - shift).mean() <= 10 and abs(shift) <= 20
        return bool(close and int(bits[one] ^ bits[other]).bit_count() <= 6)

    expected = list(range(60))
    changed = True
    while changed:
        changed = False
        for one in range(60):
            for other in range(60):
                if alike(one, other) and expected[other] > expected[one]:
                    expected[other], changed = expected[one], True
    numbers: dict[int, int] = {}
    assert near_duplicate_groups(hashes) == [
        numbers.setdefault(group, len(numbers)) for group in expected
    ]


def test_many_equal_pictures_take_one_look_each() -> None:
    thumbnail = np.zeros((64, 3), np.int16)
    assert near_duplicate_groups([(0, thumbnail)] * 3000) == [0] * 3000
