"""The robustness table: what counts as right, pairs, and attacks on defenses that draw."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from services.worker.attacks.fgsm import FGSM
from services.worker.attacks.results import AttackBatch, AttackResult
from services.worker.attacks.sparse_rs import SparseRS
from services.worker.defenses.base import Chain, Defense
from services.worker.defenses.filters import MedianFilter
from services.worker.defenses.noise import Noise
from services.worker.defenses.smoothing import RandomizedSmoothing
from services.worker.evaluation.outcomes import adversarial
from services.worker.evaluation.robustness import (
    Certified,
    Draws,
    Row,
    attack_images,
    compare,
    find_faults,
)
from services.worker.evaluation.setting import Setting
from services.worker.evaluation.table import as_csv, document
from services.worker.models.base import Classifier

SIDE = 8
BLACK = np.zeros((1, 1, 3), dtype=np.uint8)


def result(index: int, *, right: bool, fooled: bool) -> AttackResult:
    return AttackResult(
        index=index,
        success=fooled or not right,
        met_before=not right,
        queries=10,
        gradients=0,
        query_at_success=4 + index if fooled else None,
        zero_gradients=0,
        label=0,
        label_before=0 if right else 1,
        label_after=1 if fooled or not right else 0,
        confidence_before=0.9,
        confidence_after=0.1,
        l0=1,
        l2=1.0,
        linf=1,
        adversarial=BLACK,
    )


def row(
    right: Sequence[bool],
    fooled: Sequence[bool],
    transferred: Sequence[bool] | None = None,
    **fields: Any,
) -> Row:
    """Return a row; ``transferred`` says which images are right when attacked undefended."""
    results = tuple(
        result(i, right=r, fooled=f) for i, (r, f) in enumerate(zip(right, fooled, strict=True))
    )
    given: dict[str, Any] = {
        "model": "m",
        "defense": "none",
        "attack": "a",
        "sha256": "0",
        "indices": tuple(range(len(results))),
        "clean": np.array(right),
        "adaptive": AttackBatch("a", {}, False, False, 0, results),
        "transferred": None if transferred is None else np.array(transferred),
        "cost_ms": 1.0,
    }
    return Row(**{**given, **fields})


def test_successes_are_counted_over_images_that_were_right() -> None:
    found = row([True, True, True, False], [True, False, True, False], [True, False, True, True])
    assert (found.clean_accuracy.successes, found.clean_accuracy.total) == (3, 4)
    assert (found.adaptive_success.successes, found.adaptive_success.total) == (2, 3)
    assert found.transferred_success
    assert (found.transferred_success.successes, found.transferred_success.total) == (1, 3)
    assert (found.robust_accuracy.successes, found.robust_accuracy.total) == (1, 4)
    assert found.median_queries == 5  # of 4 and 6


def test_rows_are_paired_image_by_image() -> None:
    alone = row([True] * 6, [True, True, True, False, False, False])
    defended = row(
        [True] * 6,
        [True, False, False, True, False, False],
        [True, True, True, True, True, False],
        defense="d",
    )
    found = compare(defended, alone)
    assert (found.adaptive.only_first, found.adaptive.only_second) == (1, 2)
    assert found.adaptive.p == pytest.approx(binomtest(1, 3, 0.5).pvalue)
    assert found.transferred
    assert (found.transferred.only_first, found.transferred.only_second) == (1, 3)
    with pytest.raises(ValueError, match="can be paired"):
        compare(replace(defended, sha256="1"), alone)


def test_a_transferred_attack_that_beats_the_adaptive_one_is_said() -> None:
    """It costs nothing to try it through the defense: the adaptive attack should be as strong."""
    (fault,) = find_faults([row([True] * 3, [False] * 3, [False, True, True], defense="d")])
    assert "without going through the defense" in fault


def test_separate_draws_decide_what_withstood() -> None:
    """The attack claims three images; on draws of its own the defense is right about two."""
    draws = Draws(
        count=10,
        averaged=8,
        attacked=np.array([True, True, False, True]),
        clean_share=np.array([1.0, 0.8, 1.0, 0.2]),
        attacked_share=np.array([0.9, 0.6, 0.1, 0.7]),
    )
    right = [True, True, True, False]
    found = row(right, [True, True, True, False], defense="d", draws=draws)
    assert (found.adaptive_success.successes, found.adaptive_success.total) == (1, 3)
    assert found.robust_accuracy.successes == 2
    assert found.outcome.successes == 1
    assert found.median_queries == 6
    assert draws.clean_accuracy == pytest.approx(0.75)
    assert draws.robust_accuracy == pytest.approx(0.575)
    assert draws.success(np.array(right)) == pytest.approx(1 - (0.9 + 0.6 + 0.1) / 3)
    assert draws.success(np.zeros(4, dtype=bool)) is None
    shown = document(found, None)["draws"]
    assert (shown["judged"], shown["attacked"]) == (10, 8)
    with pytest.raises(ValueError, match="draws must be of its images"):
        row([True], [True], draws=draws)


def test_certified_accuracy_falls_with_the_radius() -> None:
    certified = Certified(
        RandomizedSmoothing(sigma=0.1),
        right=np.array([True, True, False, False]),
        radius=np.array([0.05, 0.2, 0.3, 0.0]),
    )
    assert certified.abstained.successes == 1
    held = [certified.accuracy(radius).successes for radius in (0.0, 0.05, 0.1, 0.2, 0.25)]
    assert held == [2, 2, 1, 1, 0]
    shown = document(row([True] * 4, [False] * 4, certified=certified), None)["certified"]
    assert [at["radius"] for at in shown["accuracy"]] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert [at["accuracy"]["successes"] for at in shown["accuracy"]] == [2, 2, 1, 1, 1]


def test_the_csv_has_a_line_a_row_with_both_tests() -> None:
    alone = row([True] * 4, [True, True, False, False])
    defended = row([True] * 4, [False] * 4, [True] * 4, defense="d")
    documents = [document(alone, None), document(defended, compare(defended, alone))]
    header, first, second = as_csv(documents).decode().splitlines()
    names = header.split(",")
    assert dict(zip(names, first.split(","), strict=True))["p_adaptive"] == ""
    shown = dict(zip(names, second.split(","), strict=True))
    assert float(shown["p_adaptive"]) == pytest.approx(binomtest(0, 2, 0.5).pvalue)
    assert (shown["defense"], shown["adaptive_success"]) == ("d", "0.0")


class Bright(nn.Module):
    """Class 1 where the mean value is above a half."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((), 100.0))

    def forward(self, images: Tensor) -> Tensor:
        score = (images.mean((1, 2, 3)) - 0.5) * self.scale
        return torch.stack([-score, score], dim=1)


def bright() -> Classifier:
    network = Classifier(
        Bright(),
        architecture="bright",
        classes=("dark", "bright"),
        input_size=(SIDE, SIDE),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
    )
    return network.eval().requires_grad_(False)


def test_an_attack_stops_at_lucky_draws_and_separate_ones_tell() -> None:
    """One pixel cannot turn these pictures, bright by a deviation of the mean's noise.

    A draw in six or so does, and the attack stops at it and is confirmed by another such draw.
    """
    images = torch.full((60, 3, SIDE, SIDE), 135, dtype=torch.uint8)
    labels = torch.ones(60, dtype=torch.long)
    setting = Setting(bright(), SIDE, Noise(sigma=0.4), judged=51)
    indices = tuple(range(60))
    batch = attack_images(
        setting, SparseRS(pixels=1, queries=40), images, labels, indices=indices, seed=0
    )
    stands = setting.answers(adversarial(batch), seed=0).right(labels).numpy()
    claimed = sum(found.success for found in batch.results)
    assert claimed >= 6
    assert int((~stands).sum()) < claimed / 3


@pytest.mark.parametrize("first", [0, 1, 50])
@pytest.mark.parametrize("steps", [[Noise(sigma=0.4)], [Noise(sigma=0.4), MedianFilter()]])
def test_an_attack_never_meets_the_noise_that_judges_it(
    first: int, steps: list[Defense], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of equal seeds, images of equal number and size get equal noise."""
    drawn: set[tuple[int, ...]] = set()
    apply = Noise.apply

    def watched(self: Noise, images: Tensor, *, seed: int = 0, indices: Any = None) -> Tensor:
        noisy = apply(self, images, seed=seed, indices=indices)
        fields = (noisy - images).flatten(1)
        drawn.update(tuple(field[:4].mul(1e4).round().int().tolist()) for field in fields)
        return noisy

    monkeypatch.setattr(Noise, "apply", watched)
    setting = Setting(bright(), SIDE, Chain(steps), judged=12)
    images, labels = torch.full((3, 3, SIDE, SIDE), 128, dtype=torch.uint8), torch.ones(3).long()
    indices = range(first, first + 3)
    attack_images(setting, FGSM(eps=4), images, labels, indices=indices, seed=7)
    attacking = set(drawn)
    drawn.clear()
    setting.answers(images, seed=7, first=first)
    assert len(attacking) >= 3
    assert len(drawn) == 3 * 12
    assert not attacking & drawn
