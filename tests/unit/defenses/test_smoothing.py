"""Randomized smoothing against the closed form of a linear classifier and SciPy's intervals."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy.stats import binomtest, norm
from torch import Tensor, nn

from services.worker.defenses.noise import Noise
from services.worker.defenses.smoothing import RandomizedSmoothing, Smoothing, certificate


class Threshold(nn.Module):
    """Class 1 where the mean value is above a half."""

    def forward(self, images: Tensor) -> Tensor:
        score = images.mean((1, 2, 3)) - 0.5
        return torch.stack([-score, score], dim=1)


@pytest.mark.parametrize(("hits", "samples"), [(0, 10), (60, 100), (99, 100), (1000, 1000)])
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_the_bound_is_clopper_and_pearsons(hits: int, samples: int, alpha: float) -> None:
    found = certificate(1, hits, samples, sigma=0.5, alpha=alpha)
    interval = binomtest(hits, samples, alternative="greater").proportion_ci(1 - alpha, "exact")
    assert math.isclose(found.probability, interval.low, abs_tol=1e-9)
    if interval.low > 0.5:
        assert found.label == 1
        assert math.isclose(found.radius, 0.5 * norm.ppf(interval.low))
    else:
        assert (found.label, found.radius) == (None, 0.0)


def test_all_hits_give_the_closed_form_radius() -> None:
    """n of n: the bound is alpha^(1/n) (Cohen et al. 2019, section 3.2.2)."""
    found = certificate(0, 1000, 1000, sigma=0.25, alpha=0.001)
    assert math.isclose(found.radius, 0.25 * norm.ppf(0.001 ** (1 / 1000)), rel_tol=1e-9)


def test_the_certified_radius_is_below_the_true_one_and_near_it() -> None:
    """A half-space: the true radius is the distance to its plane, whatever the sigma."""
    image = torch.full((3, 8, 8), 0.5 + 0.02)
    true = 0.02 * math.sqrt(image.numel())
    smoothing = Smoothing(Threshold(), sigma=0.25)
    found = smoothing.certify(image, samples=4000, seed=1)
    assert found.label == 1
    assert 0.8 * true < found.radius <= true
    assert smoothing.certify(image, samples=4000, seed=1) == found


def test_the_bound_rests_on_the_votes_given() -> None:
    image = torch.full((3, 8, 8), 0.5 + 0.01)
    found = Smoothing(Threshold(), sigma=0.25).certify(image, samples=500, seed=4)
    assert sum(found.votes) == 500
    interval = binomtest(found.votes[1], 500, alternative="greater").proportion_ci(0.999, "exact")
    assert math.isclose(found.probability, interval.low, abs_tol=1e-9)


def test_by_name_it_is_the_noise_and_the_smoothed_classifier() -> None:
    image = torch.full((3, 8, 8), 0.52)
    defense = RandomizedSmoothing(sigma=0.25, alpha=0.01, samples=200)
    noisy = Noise(sigma=0.25).apply(image[None], seed=3)
    assert torch.equal(defense.apply(image[None], seed=3), noisy)
    direct = Smoothing(Threshold(), sigma=0.25, alpha=0.01).certify(image, samples=200)
    assert defense.of(Threshold()).certify(image, samples=200) == direct


def test_abstains_on_the_boundary() -> None:
    image = torch.full((3, 8, 8), 0.5)
    smoothing = Smoothing(Threshold(), sigma=0.25)
    assert smoothing.certify(image).label is None
    assert smoothing.predict(image) is None
    assert smoothing.predict(image + 0.1) == 1


def test_the_batch_does_not_matter_and_smoothing_can_be_canceled() -> None:
    image = torch.full((3, 8, 8), 0.51)
    small = Smoothing(Threshold(), batch=7).certify(image, seed=2)
    assert small == Smoothing(Threshold(), batch=256).certify(image, seed=2)

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Smoothing(Threshold()).certify(image, check_cancel=stop)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Smoothing(Threshold(), sigma=0), "sigma"),
        (lambda: Smoothing(Threshold(), alpha=0.7), "alpha"),
        (lambda: Smoothing(Threshold(), batch=0), "batch"),
        (lambda: Smoothing(Threshold()).predict(torch.zeros(3, 8, 8), samples=0), "sample"),
        (lambda: certificate(0, 5, 4, sigma=1, alpha=0.1), "no count"),
    ],
)
def test_bad_input_is_refused(build: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build()
