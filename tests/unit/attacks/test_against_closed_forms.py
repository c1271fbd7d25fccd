"""On linear models the best attack is known; on small images all one-pixel changes are."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from services.worker.attacks.apgd import APGD
from services.worker.attacks.base import Attack
from services.worker.attacks.bim import BIM
from services.worker.attacks.boundary import Boundary
from services.worker.attacks.criteria import Untargeted
from services.worker.attacks.cw import CW
from services.worker.attacks.de import DifferentialEvolution
from services.worker.attacks.deepfool import DeepFool
from services.worker.attacks.exhaustive import Exhaustive
from services.worker.attacks.fgsm import FGSM
from services.worker.attacks.hopskipjump import HopSkipJump
from services.worker.attacks.lbfgs import LBFGS
from services.worker.attacks.mifgsm import MIFGSM
from services.worker.attacks.pgd import PGD
from services.worker.attacks.runner import run
from services.worker.attacks.sparse_rs import SparseRS
from services.worker.attacks.square import Square
from services.worker.models.base import Classifier
from tests.unit.attacks.toys import adversarial, labels_of, linear, pictures, small_cnn

SIDE = 6
VALUES = 3 * SIDE * SIDE


def two_class(seed: int, *, distance: float) -> tuple[Classifier, Tensor, Tensor, Tensor]:
    """Return a linear model, an image in mid range, its label, and the normal ``(1, 3, S, S)``.

    The border lies ``distance`` (L2, units of 1/255) from the image; the normal points across.
    """
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(VALUES, generator=generator)
    normal += 0.3 * normal.sign()  # no value so small that rounding decides
    normal /= normal.norm()
    image = torch.randint(100, 156, (1, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    bias = -(image.flatten() / 255.0) @ normal - distance / 255
    # Logit 0 is 0, logit 1 the signed distance: class 0 now, class 1 beyond the border.
    weight = torch.stack([torch.zeros(VALUES), normal])
    model = linear(weight, torch.stack([torch.zeros(()), bias]), side=SIDE)
    return model, image, torch.zeros(1, dtype=torch.long), normal.view(1, 3, SIDE, SIDE)


@pytest.mark.parametrize(
    "attack",
    [FGSM(eps=7.9), BIM(eps=7.9), MIFGSM(eps=7.9), PGD(eps=7.9, steps=20), APGD(eps=7.9, steps=30)],
    ids=lambda attack: attack.name,
)
def test_linf_attacks_find_the_corner_of_the_cube(attack: Attack) -> None:
    # The border lies beyond the cube, so that the attack does not stop early.
    model, image, label, normal = two_class(0, distance=900)
    found = adversarial(run(attack, model, image, Untargeted(label)))
    corner = image + 7 * normal.sign()
    # The seven of 7.9: the bound is floored on the 8-bit grid.
    assert torch.equal(found.float(), corner)


def test_square_search_comes_near_the_corner() -> None:
    model, image, label, normal = two_class(0, distance=900)
    batch = run(Square(eps=7, queries=3000), model, image, Untargeted(label))
    gain = ((adversarial(batch).float() - image) * normal).sum()
    assert gain > 0.85 * 7 * normal.abs().sum()


def test_l2_pgd_goes_along_the_normal() -> None:
    model, image, label, normal = two_class(1, distance=900)
    batch = run(PGD(eps=200, norm="l2", steps=20), model, image, Untargeted(label))
    change = adversarial(batch).float() - image
    assert batch.results[0].l2 <= 200
    assert (change * normal).sum() > 0.99 * 200 * 0.97


def test_l2_square_search_nears_the_normal_and_keeps_the_norm() -> None:
    model, image, label, normal = two_class(1, distance=900)
    gains = []
    for queries in (1, 100, 3000):
        batch = run(Square(eps=200, norm="l2", queries=queries), model, image, Untargeted(label))
        change = adversarial(batch).double() - image
        # The bound holds for whole levels, and hardly any of it is left unused.
        assert 0.98 * 200 < float(change.norm()) <= 200
        gains.append(float((change * normal).sum()))
    # Nothing gains more than 200; bumps come near, being no better than 8-bit pyramids.
    assert gains[0] < gains[1] < gains[2] <= 200
    assert gains[2] > 0.6 * 200


@pytest.mark.parametrize("eps", [1.0, 3.7, 40.0, 200.0])
@pytest.mark.parametrize(
    "attack", [PGD(norm="l2", steps=8), Square(norm="l2", queries=60)], ids=lambda a: a.name
)
def test_l2_norms_are_exact_on_the_grid(attack: Attack, eps: float) -> None:
    model = small_cnn(classes=3, seed=1)
    images = pictures(8, seed=9)
    labels = labels_of(model, images)
    batch = run(replace(attack, eps=eps), model, images, Untargeted(labels))
    squares = (adversarial(batch).long() - images.long()).square().sum((1, 2, 3))
    assert all(int(square) <= eps**2 for square in squares)
    assert [result.l2 for result in batch.results] == pytest.approx(squares.sqrt().tolist())


@pytest.mark.parametrize(
    ("attack", "slack"),
    [
        (DeepFool(overshoot=0.0), 1.03),
        (CW(steps=150, searches=8, learning_rate=0.02), 1.03),
        (LBFGS(searches=10), 1.03),
        (HopSkipJump(queries=6000), 1.10),
        (Boundary(queries=8000), 1.25),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
@pytest.mark.parametrize("seed", [2, 3])
def test_l2_attacks_find_the_foot_of_the_perpendicular(
    attack: Attack, slack: float, seed: int
) -> None:
    model, image, label, _ = two_class(seed, distance=120)
    batch = run(attack, model, image, Untargeted(label))
    assert batch.successes == 1
    # Nothing is nearer than the border; rounding costs up to half a level a value.
    assert 120 * 0.999 <= batch.results[0].l2 <= 120 * slack + 0.5


def test_deepfool_takes_the_nearest_of_several_borders() -> None:
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(3, VALUES, generator=generator)
    image = torch.randint(100, 156, (1, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    pixels = image.flatten() / 255.0
    bias = torch.tensor([6.0, 0.0, 1.0]) - weight @ pixels
    model = linear(weight, bias, side=SIDE)
    gaps = torch.tensor([6.0, 5.0])
    lengths = (weight[1:] - weight[0]).norm(dim=1)
    nearest = float((gaps / lengths).min()) * 255
    result = run(DeepFool(), model, image, Untargeted(torch.tensor([0]))).results[0]
    assert result.label_after == 1 + int((gaps / lengths).argmin())
    assert nearest * 0.999 <= result.l2 <= nearest * 1.05 + 0.5


def brute_force(model: Classifier, image: Tensor, lattice: tuple[int, ...]) -> int:
    """Count the one-pixel changes of one image that change its class, without the library."""
    label, found = int(labels_of(model, image[None])), 0
    for y, x in product(range(image.shape[1]), range(image.shape[2])):
        candidates = image.repeat(len(lattice) ** 3, 1, 1, 1)
        candidates[:, :, y, x] = torch.tensor(list(product(lattice, repeat=3)), dtype=torch.uint8)
        found += int((labels_of(model, candidates) != label).sum())
    return found


def test_exhaustive_search_agrees_with_brute_force_and_evolution_with_both() -> None:
    lattice = (0, 128, 255)
    model = small_cnn(classes=3, seed=4)
    images = pictures(24, seed=6)
    criterion = Untargeted(labels_of(model, images))
    exhaustive = run(Exhaustive(lattice=lattice, most_positions=64), model, images, criterion)
    truth = [brute_force(model, image, lattice) > 0 for image in images]
    assert [result.success for result in exhaustive.results] == truth
    assert 5 < sum(truth) < 20
    refuted = [r.queries for r, fooled in zip(exhaustive.results, truth, strict=True) if not fooled]
    assert set(refuted) == {64 * 27}

    evolution = DifferentialEvolution(lattice=lattice, population=50, generations=40)
    found = [result.success for result in run(evolution, model, images, criterion).results]
    assert not any(f and not t for f, t in zip(found, truth, strict=True))
    assert sum(found) >= 0.9 * sum(truth)
    everywhere = Exhaustive(most_positions=64, early_stop=False)
    corners = [r.success for r in run(everywhere, model, images, criterion).results]
    random = [
        r.success for r in run(SparseRS(pixels=1, queries=500), model, images, criterion).results
    ]
    assert not any(f and not t for f, t in zip(random, corners, strict=True))


def test_evolution_starts_with_the_paper_s_distribution() -> None:
    seen: list[np.ndarray] = []
    model = small_cnn()
    images = torch.full((1, 3, 8, 8), 77, dtype=torch.uint8)
    attack = DifferentialEvolution(population=4000, generations=0)
    hook = model.network.register_forward_pre_hook(
        lambda _, given: seen.append(given[0].numpy().copy())
    )
    run(attack, model, images, Untargeted(labels_of(model, images)))
    hook.remove()
    # Folding copies the network and its hook, so that the candidates are seen, too.
    shown = np.concatenate([part for part in seen if len(part) > 2]) * 255
    assert np.abs(shown - shown.round()).max() < 1e-3
    changed = (np.abs(shown - 77) > 0.5).any(1)
    assert set(changed.sum((1, 2))) <= {0, 1}
    counts = changed.sum(0)
    assert counts.min() > 30  # 62.5 expected a position
    colors = shown.transpose(0, 2, 3, 1)[changed]
    # N(128, 127) clipped: about 16 % at each end, the median in the middle.
    assert np.mean(colors == 0) == pytest.approx(0.16, abs=0.02)
    assert np.mean(colors > 254.5) == pytest.approx(0.16, abs=0.02)
    assert np.median(colors) == pytest.approx(128, abs=4)


class OneByOne(nn.Module):
    """Answers an image alike in every batch; kernels for many images may round otherwise."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self.network(image[None]) for image in images])


def test_remembering_candidates_changes_nothing_but_the_number_of_queries() -> None:
    model = small_cnn(seed=2)
    model.network = OneByOne(model.network).eval()
    images = pictures(8, seed=2)
    criterion = Untargeted(labels_of(model, images))
    plain, remembering = (
        run(
            DifferentialEvolution(strategy="best/1", generations=25, population=30, remember=keep),
            model,
            images,
            criterion,
        )
        for keep in (False, True)
    )
    for a, b in zip(plain.results, remembering.results, strict=True):
        assert np.array_equal(a.adversarial, b.adversarial)
        assert b.queries <= a.queries
    assert sum(r.queries for r in remembering.results) < sum(r.queries for r in plain.results)


@pytest.mark.parametrize(
    "attack",
    [
        DifferentialEvolution(pixels=3, population=20, generations=10),
        SparseRS(pixels=3, queries=200),
        Square(eps=4, queries=100),
        FGSM(eps=2),
        MIFGSM(eps=2),
        PGD(eps=2),
        APGD(eps=2, steps=10),
    ],
    ids=lambda attack: attack.name,
)
def test_searching_in_bf16_claims_what_float32_confirms_and_loses_little(attack: Attack) -> None:
    model = small_cnn(classes=3, seed=4)
    images = pictures(60, seed=6)
    labels = labels_of(model, images)
    batch = run(replace(attack, search_bf16=True), model, images, Untargeted(labels))
    fooled = labels_of(model, adversarial(batch)) != labels
    assert [result.success for result in batch.results] == fooled.tolist()
    assert all((r.query_at_success or 0) <= r.queries for r in batch.results)
    exact = run(attack, model, images, Untargeted(labels))
    assert 0 < exact.successes < 60
    assert abs(batch.successes - exact.successes) <= 2
