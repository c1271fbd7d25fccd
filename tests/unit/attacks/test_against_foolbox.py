"""The same model, pictures and settings as a well-known library: as strong, and no farther away."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from services.worker.attacks.base import Attack
from services.worker.attacks.criteria import Untargeted
from services.worker.attacks.cw import CW
from services.worker.attacks.deepfool import DeepFool
from services.worker.attacks.fgsm import FGSM
from services.worker.attacks.mifgsm import MIFGSM
from services.worker.attacks.pgd import PGD
from services.worker.attacks.runner import run
from services.worker.datasets.labeled import load_class_folders
from services.worker.models.base import Classifier
from services.worker.models.registry import find_models, load_model

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of SciPy's old names
    import foolbox

PICTURES = 40
FEWER = 16  # for attacks of hundreds of steps
EPS, STEP, STEPS = 8, 1, 12

Right = tuple[Classifier, Tensor, Tensor]


@pytest.fixture(scope="module")
def right(shared_data: Path) -> Right:
    """The shipped CNN, and validation pictures that it gets right."""
    card, folder = find_models()["mask-cnn-32"]
    model = load_model(card, folder).classifier
    data = load_class_folders(
        shared_data / "mask_classification" / "val", model.classes, size=model.input_size[0]
    )
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[: 2 * PICTURES]
    images, labels = data.images[order], data.labels[order]
    with torch.inference_mode():
        hits = model(images / 255).argmax(1) == labels
    return model, images[hits][:PICTURES], labels[hits][:PICTURES]


def ours(attack: Attack, right: Right) -> Tensor:
    """Return the attacked pictures ``(N, 3, S, S)`` of this project, in [0, 1]."""
    model, images, labels = right
    results = run(attack, model, images, Untargeted(labels)).results
    found = np.stack([result.adversarial for result in results])
    return torch.from_numpy(found).permute(0, 3, 1, 2) / 255


def theirs(attack: Any, right: Right, *, eps: float | None) -> Tensor:
    """Return those of the library, as it leaves them: between the 8-bit values, too."""
    model, images, labels = right
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    found: Tensor = attack(wrapped, images / 255, labels, epsilons=eps)[1]
    return found


def fooled(pictures: Tensor, right: Right) -> Tensor:
    model, _, labels = right
    with torch.inference_mode():
        return model(pictures).argmax(1) != labels


def on_grid(pictures: Tensor) -> Tensor:
    return (pictures * 255).round() / 255


LINF: list[tuple[Attack, Callable[[], Any]]] = [
    (
        FGSM(eps=EPS),
        lambda: foolbox.attacks.LinfFastGradientAttack(random_start=False),
    ),
    (
        PGD(eps=EPS, step_size=STEP, steps=STEPS, random_start=False),
        lambda: foolbox.attacks.LinfPGD(abs_stepsize=STEP / 255, steps=STEPS, random_start=False),
    ),
    (
        MIFGSM(eps=EPS, step_size=STEP, steps=STEPS),
        lambda: foolbox.attacks.LinfMomentumIterativeFastGradientMethod(
            momentum=1.0, abs_stepsize=STEP / 255, steps=STEPS, random_start=False
        ),
    ),
]


@pytest.mark.parametrize(("attack", "peer"), LINF, ids=lambda value: getattr(value, "name", ""))
def test_fools_on_the_same_pictures(attack: Attack, peer: Callable[[], Any], right: Right) -> None:
    _, images, _ = right
    mine, other = ours(attack, right), on_grid(theirs(peer(), right, eps=EPS / 255))

    assert 0 < int(fooled(other, right).sum()) < PICTURES
    assert fooled(mine, right).tolist() == fooled(other, right).tolist()
    assert (mine - images / 255).abs().max() * 255 <= EPS + 1e-3


@pytest.mark.parametrize(
    ("attack", "peer", "longest"),
    [
        (
            DeepFool(steps=50, overshoot=0.02),
            lambda: foolbox.attacks.L2DeepFoolAttack(steps=50, candidates=2, overshoot=0.02),
            1.0,
        ),
        (
            CW(steps=40, searches=5, learning_rate=0.01),
            lambda: foolbox.attacks.L2CarliniWagnerAttack(
                binary_search_steps=5, steps=40, stepsize=0.01, initial_const=0.1
            ),
            1.02,  # of two searches for one minimum
        ),
    ],
    ids=["deepfool", "cw"],
)
def test_goes_no_farther_to_fool_as_often(
    attack: Attack, peer: Callable[[], Any], longest: float, right: Right
) -> None:
    model, images, labels = right
    right = model, images[:FEWER], labels[:FEWER]
    images = images[:FEWER]
    mine, other = ours(attack, right), on_grid(theirs(peer(), right, eps=None))

    def far(pictures: Tensor) -> Tensor:
        return (pictures - images / 255).flatten(1).norm(dim=1)

    # What counts is the delivered picture: rounding takes the peer back over some borders.
    still = fooled(other, right)
    assert int(still.sum()) >= FEWER // 3
    assert fooled(mine, right).all()
    assert float((far(mine) / far(other))[still].median()) <= longest
