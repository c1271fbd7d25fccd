"""A defended classifier's answers, against closed forms of a half-space under Gaussian noise."""

import math

import pytest
import torch
from scipy.stats import norm
from torch import Tensor, nn

from services.worker.defenses.base import Chain
from services.worker.defenses.filters import BitDepth, MedianFilter
from services.worker.defenses.noise import Noise
from services.worker.defenses.smoothing import RandomizedSmoothing
from services.worker.evaluation.setting import NO_LABEL, Setting
from services.worker.models.base import Classifier

SIDE = 8
SIGMA = 0.25


class Bright(nn.Module):
    """Class 1 where the mean value is above a half."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        score = (images.mean((1, 2, 3)) - 0.5) * self.scale
        return torch.stack([-score, score], dim=1)


def classifier() -> Classifier:
    made = Classifier(
        Bright(),
        architecture="bright",
        classes=("dark", "bright"),
        input_size=(SIDE, SIDE),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
    )
    return made.eval().requires_grad_(False)


def flat(*levels: int) -> Tensor:
    """Return uint8 pictures of one level each."""
    return torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, SIDE, SIDE)


def chance(level: int) -> float:
    """Return how often a picture of a level is called bright under the noise."""
    deviation = SIGMA / math.sqrt(3 * SIDE * SIDE)
    return float(norm.cdf((level / 255 - 0.5) / deviation))


def test_a_random_defense_is_judged_by_the_majority_of_its_draws() -> None:
    levels = (120, 126, 127, 129, 130, 140)
    setting = Setting(classifier(), SIDE, Noise(sigma=SIGMA), judged=400)
    found = setting.answers(flat(*levels), seed=1)
    bright = torch.ones(len(levels), dtype=torch.long)
    expected = torch.tensor([chance(level) for level in levels], dtype=torch.float64)
    torch.testing.assert_close(found.share(bright), expected, atol=0.08, rtol=0)
    assert found.votes.sum(1).tolist() == [400] * len(levels)
    majority = torch.where(found.share(bright) > 0.5, 1, 0)
    assert torch.equal(found.labels, majority)
    assert torch.equal(found.right(bright), majority == 1)


def test_half_of_the_draws_is_no_majority() -> None:
    """Of two draws that differ, neither is right."""
    setting = Setting(classifier(), SIDE, Noise(sigma=SIGMA), judged=2)
    found = setting.answers(flat(*[127] * 20), seed=0)
    split = found.votes[:, 0] == 1
    assert 0 < int(split.sum()) < 20
    assert (found.labels[split] == NO_LABEL).all()
    assert (found.labels[~split] != NO_LABEL).all()


def test_an_images_draws_depend_on_its_number_alone() -> None:
    setting = Setting(classifier(), SIDE, Noise(sigma=SIGMA), judged=30)
    images = flat(*range(118, 138))
    whole = setting.answers(images, seed=5)
    rest = setting.answers(images[7:], seed=5, first=7)
    assert torch.equal(whole.votes[7:], rest.votes)
    assert torch.equal(setting.answers(images, seed=5).votes, whole.votes)
    assert not torch.equal(setting.answers(images, seed=6).votes, whole.votes)


def test_a_fixed_defense_answers_once() -> None:
    images = flat(10, 126, 129, 250)
    setting = Setting(classifier(), SIDE, BitDepth(bits=1))
    assert setting.draws_judged == setting.draws_used == 1
    found = setting.answers(images, seed=0)
    assert found.votes.sum(1).tolist() == [1] * 4
    assert found.labels.tolist() == [0, 0, 1, 1]


def test_what_does_not_draw_is_applied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    transform = MedianFilter.transform

    def counted(self: MedianFilter, images: Tensor) -> Tensor:
        calls.append(len(images))
        return transform(self, images)

    monkeypatch.setattr(MedianFilter, "transform", counted)
    chain = Chain([MedianFilter(), Noise(sigma=SIGMA)])
    found = Setting(classifier(), SIDE, chain, judged=25).answers(flat(127, 250), seed=0)
    assert calls == [2]
    assert found.votes.sum(1).tolist() == [25, 25]
    assert 0 < int(found.votes[0, 1]) < 25  # the noise is drawn anew each time


def test_smoothing_abstains_and_certifies_up_to_the_plane() -> None:
    """No certified radius may be above the distance to the plane, which is the true one."""
    smoothing = RandomizedSmoothing(sigma=SIGMA, selection=100, samples=1000)
    setting = Setting(classifier(), SIDE, Chain([MedianFilter(), smoothing]))
    assert setting.smoothing is smoothing
    assert setting.draws_judged == 100
    levels = (127, 134, 145)
    found = setting.answers(flat(*levels), seed=2)
    assert found.labels.tolist() == [NO_LABEL, 1, 1]
    certificates = setting.certify(flat(*levels), seed=2)
    for level, certificate in zip(levels, certificates, strict=True):
        assert certificate.radius <= abs(level / 255 - 0.5) * math.sqrt(3 * SIDE * SIDE)
    assert certificates[1].radius > 0.5 * (134 / 255 - 0.5) * math.sqrt(3 * SIDE * SIDE)
    with pytest.raises(ValueError, match="only randomized smoothing"):
        Setting(classifier(), SIDE).certify(flat(1), seed=0)


def test_a_smoothed_answer_costs_all_its_draws() -> None:
    images = flat(*[100] * 16)
    few, many = (
        Setting(classifier(), SIDE, RandomizedSmoothing(selection=count)).cost_ms(images)
        for count in (10, 400)
    )
    assert many > 4 * few
