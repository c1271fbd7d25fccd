"""The gates speak when an attack is broken, and only then."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from services.worker.attacks.base import Attack
from services.worker.attacks.boundary import Boundary
from services.worker.attacks.criteria import Untargeted
from services.worker.attacks.cw import CW
from services.worker.attacks.fgsm import FGSM
from services.worker.attacks.pgd import PGD
from services.worker.attacks.results import AttackBatch
from services.worker.attacks.runner import run
from services.worker.attacks.sanity import Side, check_alone, check_together
from services.worker.attacks.square import Square
from services.worker.models.base import Classifier
from tests.unit.attacks.toys import labels_of, pictures, small_cnn, wrap


def attacked(attack: Attack, model: Classifier | None = None, *, sha: str = "a") -> Side:
    model = model or small_cnn(seed=2)
    images = pictures(10, seed=1)
    return Side(run(attack, model, images, Untargeted(labels_of(model, images))), sha)


def fooling(side: Side, count: int) -> Side:
    """Pretend that just so many images were fooled."""
    results = tuple(
        replace(result, success=number < count) for number, result in enumerate(side.batch.results)
    )
    return replace(side, batch=replace(side.batch, results=results))


def gates(*sides: Side) -> set[str]:
    return {warning.gate for warning in check_together(sides)}


def test_says_nothing_about_sound_attacks() -> None:
    sides = [attacked(attack) for attack in (FGSM(eps=4), PGD(eps=4), PGD(eps=8), PGD(eps=128))]
    assert check_together(sides) == []


def test_pgd_weaker_than_fgsm() -> None:
    fgsm, pgd = attacked(FGSM(eps=8)), attacked(PGD(eps=8))
    assert gates(fooling(fgsm, 5), fooling(pgd, 4)) == {"pgd-weaker-than-fgsm"}
    assert gates(fooling(fgsm, 4), fooling(pgd, 4)) == set()


def test_steps_that_do_not_reach_eps() -> None:
    # Paper 001: ten steps of .002 for an eps of .05.
    side = attacked(PGD(eps=12.75, step_size=0.51, steps=10))
    assert [warning.gate for warning in check_alone(side)] == ["steps-short-of-eps"]
    assert check_alone(attacked(PGD(eps=12.75, step_size=1.275, steps=10))) == []


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (PGD(eps=4), PGD(eps=8)),
        (PGD(eps=4, steps=4), PGD(eps=4, steps=8)),
        (Square(eps=4, queries=10), Square(eps=4, queries=20)),
    ],
)
def test_success_that_does_not_rise_with_effort(less: Attack, more: Attack) -> None:
    one, other = attacked(less), attacked(more)
    assert gates(fooling(one, 6), fooling(other, 3)) == {"success-not-rising"}
    assert gates(fooling(one, 3), fooling(other, 3)) == set()


def test_black_box_that_beats_white_box() -> None:
    square, pgd = attacked(Square(eps=8, queries=10)), attacked(PGD(eps=8))
    assert gates(fooling(square, 5), fooling(pgd, 2)) == {"black-box-beats-white-box"}
    assert gates(fooling(square, 5), fooling(pgd, 5)) == set()
    # Neither another ball nor a single step is a handicap of gradients.
    assert gates(fooling(square, 5), fooling(attacked(PGD(eps=4)), 2)) == set()
    assert gates(fooling(square, 5), fooling(attacked(FGSM(eps=8)), 2)) == set()


def test_labels_alone_that_lead_nearer_than_gradients() -> None:
    walk, nearest = attacked(Boundary(queries=100)), attacked(CW(steps=5, searches=2))

    def at(side: Side, distance: float) -> Side:
        results = (replace(result, success=True, l2=distance) for result in side.batch.results)
        return replace(side, batch=replace(side.batch, results=tuple(results)))

    assert gates(at(walk, 90), at(nearest, 100)) == {"black-box-beats-white-box"}
    assert gates(at(walk, 99), at(nearest, 100)) == set()
    assert gates(fooling(at(walk, 90), 4), fooling(at(nearest, 100), 0)) == set()


def test_an_eps_that_allows_everything_must_fool_everything() -> None:
    side = fooling(attacked(PGD(eps=128)), 9)
    assert gates(side) == {"large-eps-not-complete"}
    assert gates(fooling(side, 10)) == set()
    # Part of an image, or one label of several, may be out of reach.
    assert gates(replace(side, everywhere=False)) == set()
    assert gates(replace(side, batch=replace(side.batch, targeted=True))) == set()
    assert gates(fooling(attacked(PGD(eps=127)), 9)) == set()


class Staircase(nn.Module):
    """A model whose gradient is zero everywhere."""

    def forward(self, images: Tensor) -> Tensor:
        bright = (images.mean((1, 2, 3)) * 50).round()
        return torch.stack([bright, 25 - bright], 1) + 0 * images.sum((1, 2, 3))[:, None]


def test_masked_gradients() -> None:
    side = attacked(PGD(eps=4), wrap(Staircase(), classes=2, side=8))
    assert gates(side) == {"zero-gradients"}
    few = tuple(replace(result, zero_gradients=0) for result in side.batch.results[1:])
    rare = replace(side.batch, results=(side.batch.results[0], *few))
    assert gates(replace(side, batch=rare)) == set()


def test_runs_that_must_not_be_compared() -> None:
    fgsm, pgd = attacked(FGSM(eps=8)), attacked(PGD(eps=8), sha="b")
    assert gates(fooling(fgsm, 5), fooling(pgd, 2)) == {"different-models"}
    assert gates(fgsm, attacked(PGD(eps=8))) == set()
    moved: AttackBatch = replace(fgsm.batch, results=fgsm.batch.results[1:])
    assert "different-images" in gates(fgsm, replace(fgsm, batch=moved))
