"""No picture, and no near-duplicate of one, is on two sides of a split."""

import pytest
import torch

from services.worker.datasets.labeled import LabeledImages
from services.worker.datasets.splits import arrange, carve

CLASSES = ("a", "b")


def pictures(groups: list[str], labels: list[int], *, first: int = 0) -> LabeledImages:
    """Pictures of one value each, ``first``, ``first + 1`` and so on."""
    count = len(groups)
    values = torch.arange(first, first + count, dtype=torch.uint8).view(-1, 1, 1, 1)
    images = values.expand(-1, 3, 4, 4).contiguous()
    return LabeledImages(images, torch.tensor(labels, dtype=torch.long), CLASSES, tuple(groups))


def values(data: LabeledImages) -> set[int]:
    return set(data.images[:, 0, 0, 0].tolist())


def test_groups_that_cross_sides_stay_on_the_one_that_counts_for_more() -> None:
    train = pictures(["1", "2", "3", "4", "5"], [0, 1, 0, 1, 0])
    val = pictures(["3", "6", "7"], [0, 1, 0], first=10)
    test = pictures(["4", "7", "8"], [1, 0, 1], first=20)
    sides = arrange((train, val, test))
    assert values(sides.train) == {0, 1, 4}  # without 3, in validation, and 4, in test
    assert values(sides.val) == {10, 11}  # without 7, in test
    assert values(sides.test) == {20, 21, 22}
    assert sides.left_out == 3
    assert not sides.carved


def test_equal_pixels_belong_together_and_bring_their_groups() -> None:
    train = pictures(["x", "x", "y", "z"], [0, 1, 1, 0])
    val = pictures(["v"], [1], first=1)  # the pixels of train's second picture
    test = pictures(["t"], [0], first=40)
    sides = arrange((train, val, test))
    assert values(sides.train) == {2, 3}
    assert sides.left_out == 2


@pytest.mark.parametrize("seed", range(4))
def test_a_validation_side_is_carved_by_group_with_every_class(seed: int) -> None:
    groups = [f"g{i // 3}" for i in range(90)]
    labels = [int(i // 3 % 10 == 0) for i in range(90)]  # 27 groups of a, 3 of b
    nothing = pictures([], [])
    sides = arrange((pictures(groups, labels), nothing, nothing), share=0.2, seed=seed)
    assert sides.carved
    assert sides.left_out == 0
    assert not set(sides.train.groups) & set(sides.val.groups)
    assert values(sides.train) | values(sides.val) == set(range(90))
    assert sides.val.counts == {"a": 15, "b": 3}
    again = arrange((pictures(groups, labels), nothing, nothing), share=0.2, seed=seed)
    assert values(again.val) == values(sides.val)


def test_each_data_set_has_its_say_in_validation() -> None:
    nothing = pictures([], [])
    split = (pictures(["1", "2"], [0, 1]), pictures(["3", "4"], [0, 1], first=10), nothing)
    whole = (pictures([f"b{i}" for i in range(20)], [0, 1] * 10, first=50), nothing, nothing)
    sides = arrange(split, whole, share=0.2)
    assert sides.carved
    assert {10, 11} < values(sides.val)
    assert len(values(sides.val) - {10, 11}) == 4
    # An image of the second set is in the first one's test split.
    tested = (*split[:2], pictures(["5"], [0], first=52))
    sides = arrange(tested, whole, share=0.2)
    assert 52 not in values(sides.train) | values(sides.val)
    assert sides.left_out == 1


def test_a_group_counts_for_its_rarest_class() -> None:
    # Ten photos of two faces each, of which two photos have a rare one.
    groups = [f"g{i // 2}" for i in range(20)]
    labels = [int(i in (0, 2)) for i in range(20)]
    inside, outside = carve(pictures(groups, labels), 0.1, seed=0)
    assert inside.counts["b"] == outside.counts["b"] == 1


def test_a_class_of_one_group_stays_to_be_learned() -> None:
    groups, labels = ["b", *(f"a{i}" for i in range(10))], [1, *[0] * 10]
    inside, outside = carve(pictures(groups, labels), 0.5, seed=0)
    assert inside.counts == {"a": 5, "b": 1}
    assert outside.counts == {"a": 5, "b": 0}


def test_refuses_what_cannot_be_split() -> None:
    nothing = pictures([], [])
    with pytest.raises(ValueError, match="no training image of the class 'b'"):
        arrange((pictures(["1", "2"], [0, 0]), nothing, nothing))
    with pytest.raises(ValueError, match="too few"):
        arrange((pictures(["1", "2"], [0, 1]), nothing, nothing))
    with pytest.raises(ValueError, match="no training image"):
        arrange((nothing, nothing, nothing))
