"""``evaluate`` with random defenses of a hand-made classifier, whose figures have closed forms."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image
from scipy.stats import norm
from torch import Tensor, nn

from services.worker.jobs.evaluate import job
from services.worker.models.base import Classifier
from services.worker.models.registry import LoadedModel
from shared.model_card import ModelCard
from shared.results.evaluate import TableRow
from shared.specs.evaluate import EvaluateSpec

SIDE, SIGMA, EPS = 8, 0.25, 32
CLASSES = ("dark", "bright")
# The noise moves the mean of 192 values by 4.6 levels: only what lies near 127 is ever in doubt.
LEVELS = (112, 145, 175, 200, 60)
LABELS = ("bright", "bright", "bright", "bright", "dark")
Make = Callable[..., Any]


class Bright(nn.Module):
    """Class 1 where the mean value is above a half."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        score = (images.mean((1, 2, 3)) - 0.5) * self.scale
        return torch.stack([-score, score], dim=1)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> LoadedModel:
    classifier = Classifier(
        Bright(),
        architecture="bright",
        classes=CLASSES,
        input_size=(SIDE, SIDE),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
    )
    card = ModelCard(
        id="bright",
        task="mask",
        architecture="bright",
        classes=CLASSES,
        input_size=(SIDE, SIDE),
        crop_margin=0.0,
        sha256="0" * 64,
        size=1,
        license="test",
        training_data={},
        training={},
    )
    loaded = LoadedModel(classifier.eval().requires_grad_(False), card, torch.device("cpu"))
    monkeypatch.setattr(job, "load_models", lambda context, spec: [loaded])
    return loaded


def judged(context_of: Make, step: dict[str, Any], **fields: Any) -> tuple[TableRow, ...]:
    context = context_of(*(Image.new("RGB", (SIDE, SIDE), (level,) * 3) for level in LEVELS))
    wanted = {
        "images": context.ids,
        "labels": LABELS,
        "attacks": [{"name": "fgsm", "eps": EPS}],
        "defenses": [[step]],
        "bootstrap": 50,
        "seed": 3,
        **fields,
    }
    return job.run(context, EvaluateSpec.model_validate(wanted)).rows


def counts(row: TableRow) -> list[tuple[int, int]]:
    transferred = row.transferred_success
    assert transferred
    rates = (row.clean_accuracy, transferred, row.adaptive_success, row.robust_accuracy)
    return [(rate.successes, rate.total) for rate in rates]


@pytest.mark.usefixtures("model")
def test_noise_is_judged_by_majorities_and_by_single_draws(context_of: Make) -> None:
    """The attack takes 32 levels from bright pictures: of those that are right, 145 falls."""
    step = {"name": "noise", "sigma": SIGMA}
    plain, noisy = judged(context_of, step, draws=4, judged_draws=101)
    assert plain.draws is None
    assert (plain.clean_accuracy.successes, plain.adaptive_success.successes) == (4, 1)
    assert counts(noisy) == [(4, 5), (1, 4), (1, 4), (3, 5)]

    assert noisy.draws
    assert (noisy.draws.judged, noisy.draws.attacked) == (101, 4)
    assert noisy.draws.clean_accuracy == pytest.approx(4 / 5, abs=0.01)
    assert noisy.draws.robust_accuracy == pytest.approx(3 / 5, abs=0.01)
    assert noisy.draws.adaptive_success == pytest.approx(1 / 4, abs=0.01)
    paired = noisy.against_undefended
    assert paired
    assert (paired.adaptive.only_first, paired.adaptive.only_second, paired.adaptive.p) == (0, 0, 1)


@pytest.mark.usefixtures("model")
def test_smoothing_certifies_what_its_samples_can_show(context_of: Make) -> None:
    """With all of n draws alike the bound is alpha^(1/n): here 1.83 sigma, and no more."""
    alpha, samples = 0.001, 200
    step = {
        "name": "smoothing",
        "sigma": SIGMA,
        "alpha": alpha,
        "selection": 50,
        "samples": samples,
    }
    _, smooth = judged(context_of, step, draws=4)
    assert counts(smooth) == [(4, 5), (1, 4), (1, 4), (3, 5)]
    assert smooth.draws
    assert smooth.draws.judged == 50

    assert 1.5 < norm.ppf(alpha ** (1 / samples)) < 2
    certified = smooth.certified
    assert certified
    assert certified.abstained.successes == 0
    assert [at.radius / SIGMA for at in certified.accuracy] == [0, 0.5, 1, 1.5, 2]
    assert [at.accuracy.successes for at in certified.accuracy] == [4, 4, 4, 4, 0]


@pytest.mark.usefixtures("model")
def test_a_picture_in_doubt_is_abstained_from_and_not_right(
    context_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "LEVELS", (127, 145, 175, 200, 60))
    step = {"name": "smoothing", "sigma": SIGMA, "selection": 50, "samples": 200}
    _, smooth = judged(context_of, step, draws=4)
    assert smooth.clean_accuracy.successes == 4
    assert smooth.certified
    assert smooth.certified.abstained.successes == 1
    assert smooth.certified.accuracy[0].accuracy.successes == 4
