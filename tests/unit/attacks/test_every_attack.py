"""What holds for every attack, whatever it does."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from services.worker.attacks.apgd import APGD
from services.worker.attacks.base import Attack
from services.worker.attacks.bim import BIM
from services.worker.attacks.boundary import Boundary
from services.worker.attacks.catalog import ATTACKS
from services.worker.attacks.criteria import Targeted, Untargeted
from services.worker.attacks.cw import CW
from services.worker.attacks.de import DifferentialEvolution
from services.worker.attacks.deepfool import DeepFool
from services.worker.attacks.exhaustive import Exhaustive
from services.worker.attacks.fgsm import FGSM
from services.worker.attacks.hopskipjump import HopSkipJump
from services.worker.attacks.jsma import JSMA
from services.worker.attacks.lbfgs import LBFGS
from services.worker.attacks.mifgsm import MIFGSM
from services.worker.attacks.pgd import PGD
from services.worker.attacks.region import Region
from services.worker.attacks.results import AttackBatch
from services.worker.attacks.runner import run
from services.worker.attacks.sparse_rs import SparseRS
from services.worker.attacks.square import Square
from tests.unit.attacks.toys import adversarial, labels_of, pictures, small_cnn

ALL: tuple[Attack, ...] = (
    DifferentialEvolution(pixels=2, population=12, generations=6),
    DifferentialEvolution(
        population=12, generations=6, strategy="best/1", dither=True, remember=True
    ),
    SparseRS(pixels=3, queries=40),
    Exhaustive(most_positions=64),
    JSMA(max_pixels=8),
    FGSM(eps=6),
    BIM(eps=4, steps=4),
    MIFGSM(eps=4, steps=4),
    PGD(eps=4, steps=4, restarts=2),
    PGD(eps=60, norm="l2", steps=4, loss="margin"),
    APGD(eps=4, steps=12, loss="margin"),
    APGD(eps=60, norm="l2", steps=8, restarts=2),
    DeepFool(steps=8),
    CW(steps=8, searches=3, learning_rate=0.05),
    LBFGS(searches=3, iterations=4),
    Square(eps=6, queries=30),
    Square(eps=60, norm="l2", queries=30),
    Boundary(queries=120),
    HopSkipJump(queries=300, probes=20),
)
NAMED = pytest.mark.parametrize("attack", ALL, ids=lambda attack: attack.name)


def bound(attack: Attack) -> tuple[float, float, float]:
    """Return the largest L0, L2 and L-infinity that an attack's parameters allow."""
    pixels = getattr(attack, "pixels", None) or getattr(attack, "max_pixels", None)
    l0 = 1 if isinstance(attack, Exhaustive) else pixels or np.inf
    eps = getattr(attack, "eps", np.inf)
    return (l0, eps, np.inf) if getattr(attack, "norm", "linf") == "l2" else (l0, np.inf, eps)


def same(left: AttackBatch, right: AttackBatch) -> None:
    for a, b in zip(left.results, right.results, strict=True):
        assert np.array_equal(a.adversarial, b.adversarial)
        figures = [
            (r.index, r.success, r.queries, r.gradients, r.query_at_success, r.l0, r.linf)
            for r in (a, b)
        ]
        assert figures[0] == figures[1]


def test_all_names_of_the_catalog_are_tested() -> None:
    assert {attack.name for attack in ALL} == set(ATTACKS)


@NAMED
@pytest.mark.parametrize("classes", [2, 3])
def test_reports_what_the_delivered_image_does(attack: Attack, classes: int) -> None:
    model = small_cnn(classes=classes)
    images = pictures(6)
    labels = labels_of(model, images)
    batch = run(attack, model, images, Untargeted(labels), seed=1)
    after = labels_of(model, adversarial(batch))
    for row, result in enumerate(batch.results):
        change = result.adversarial.astype(int) - images[row].permute(1, 2, 0).numpy().astype(int)
        assert result.success == (int(after[row]) != int(labels[row])) or not result.success
        assert result.label_after == int(after[row])
        assert result.l0 == int((change != 0).any(2).sum()) <= bound(attack)[0]
        assert result.l2 == pytest.approx(np.sqrt((change**2).sum()))
        assert result.l2 <= bound(attack)[1]
        assert result.linf == np.abs(change).max() <= bound(attack)[2]
        assert result.counted
        assert (result.query_at_success is not None) == result.success
        assert (result.query_at_success or 0) <= result.queries
        assert (result.gradients > 0) == attack.uses_gradients
    assert len(batch.success_curve()) == batch.successes


@NAMED
def test_an_image_fares_alone_as_in_a_batch_and_again(attack: Attack) -> None:
    model = small_cnn(classes=3)
    images = pictures(4)
    labels = labels_of(model, images)
    whole = run(attack, model, images, Untargeted(labels), seed=5)
    same(whole, run(attack, model, images, Untargeted(labels), seed=5))
    alone = run(attack, model, images[2:3], Untargeted(labels[2:3]), seed=5, indices=[2])
    same(replace(whole, results=whole.results[2:3]), alone)


@NAMED
def test_stays_in_its_region(attack: Attack) -> None:
    model = small_cnn(classes=2)
    images = pictures(4, seed=2)
    box = run(
        attack,
        model,
        images,
        Untargeted(labels_of(model, images)),
        region=Region.boxes([(1, 2, 5, 6)] * 4, height=8, width=8),
    )
    changed = (adversarial(box) != images).any(1)
    assert not changed[:, :2].any()
    assert not changed[:, 6:].any()
    assert not changed[:, :, :1].any()
    assert not changed[:, :, 5:].any()


@NAMED
def test_reaches_a_target_or_says_that_it_did_not(attack: Attack) -> None:
    model = small_cnn(classes=3)
    images = pictures(6, seed=4)
    labels = labels_of(model, images)
    targets = (labels + 1) % 3
    batch = run(attack, model, images, Targeted(targets))
    after = labels_of(model, adversarial(batch))
    for row, result in enumerate(batch.results):
        assert result.label == int(labels[row])
        if result.success:
            assert int(after[row]) == int(targets[row])


class Stopped(Exception):
    """Raised by a cancel check."""


def stop_after(calls: int) -> Callable[[], None]:
    left = [calls]

    def check() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Stopped

    return check


@NAMED
def test_stops_when_asked_to_and_tells_its_progress(attack: Attack) -> None:
    model = small_cnn()
    images = pictures(3)
    criterion = Untargeted(labels_of(model, images))
    with pytest.raises(Stopped):
        run(attack, model, images, criterion, check_cancel=stop_after(2))
    told: list[tuple[int, int]] = []
    run(attack, model, images, criterion, progress=lambda done, of, _: told.append((done, of)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert 0 < told[-1][0] <= told[-1][1] == attack.total_steps


def test_leaves_alone_what_is_misclassified_already() -> None:
    model = small_cnn()
    images = pictures(3)
    wrong = 1 - labels_of(model, images)
    batch = run(FGSM(), model, images, Untargeted(wrong))
    assert torch.equal(adversarial(batch), images)
    assert batch.counted == ()
    assert batch.success_rate == 0
    assert all(result.queries == 0 for result in batch.results)


def test_refuses_what_it_cannot_attack_honestly() -> None:
    model = small_cnn()
    images = pictures(2)
    labels = labels_of(model, images)
    with pytest.raises(ValueError, match="train mode"):
        run(FGSM(), small_cnn().train(), images, Untargeted(labels))
    with pytest.raises(ValueError, match="labels must lie"):
        run(FGSM(), model, images, Untargeted(labels + 5))
    with pytest.raises(ValueError, match="8-bit grid"):
        run(FGSM(), model, images.float() / 255 * 0.999, Untargeted(labels))
    with pytest.raises(ValueError, match="region"):
        run(FGSM(), model, images, Untargeted(labels), region=Region.whole(2, 4, 4))
    with pytest.raises(ValueError, match="at least one pixel"):
        Region.boxes([(3, 3, 3, 3)], height=8, width=8)
    with pytest.raises(ValueError, match="units of 1/255"):
        run(FGSM(eps=0.5), model, images, Untargeted(labels))
