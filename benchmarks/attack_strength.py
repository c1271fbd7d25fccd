"""Strength beside the peers: same model, same images, same bounds, steps and queries.

``python -m benchmarks.attack_strength [--images 200] [--queries 1000] [--only square cw]``

Validation pictures that the shipped network has right. Every adversarial image is rounded to
8 bits, as it would be delivered, and judged by the network itself; what then exceeds its bound by
rounding alone is left to the peers. Success with its Wilson 95 % interval, and McNemar's test on
the images that only one of both fooled; for attacks that look for the smallest change, the median
L2 over the images that both of them fooled, and on how many of them ours is smaller. Queries are
counted where they arrive, in the network. foolbox has no budget of queries for attacks on labels
alone: its steps are so many that it needs at least as many.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.attack_cost import MODEL, pictures
from benchmarks.attack_pixels import Counter
from services.worker.attacks.base import Attack
from services.worker.attacks.boundary import Boundary
from services.worker.attacks.criteria import Untargeted
from services.worker.attacks.cw import CW
from services.worker.attacks.de import DifferentialEvolution
from services.worker.attacks.deepfool import DeepFool
from services.worker.attacks.fgsm import FGSM
from services.worker.attacks.hopskipjump import HopSkipJump
from services.worker.attacks.mifgsm import MIFGSM
from services.worker.attacks.pgd import PGD
from services.worker.attacks.runner import run
from services.worker.attacks.square import Square
from services.worker.evaluation.metrics import wilson
from services.worker.evaluation.paired import mcnemar
from services.worker.models.base import Classifier
from services.worker.models.registry import find_models, load_model

EPS, STEPS, STEP = 8, 10, 2
L2 = 382.5  # 1.5 in [0, 1]
POPULATION = 100
Peer = Callable[[], Tensor]
Trial = tuple[Attack, dict[str, Peer], bool]


def art_classifier(model: Classifier) -> object:
    """Wrap a model for ART."""
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        model,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=(3, *model.input_size),
        nb_classes=len(model.classes),
        clip_values=(0, 1),
        device_type="cpu",
    )


def trials(model: Classifier, floats: Tensor, labels: Tensor, queries: int) -> dict[str, Trial]:
    """Return ours and the peers' attacks by name; the last entry: whether norms are compared."""
    import foolbox
    import torchattacks
    from art.attacks import evasion

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    estimator = art_classifier(model)

    def theirs(attack: object, *, eps: float | None = None) -> Peer:
        def images() -> Tensor:
            if isinstance(attack, torchattacks.attack.Attack):
                return attack(floats, labels)
            if isinstance(attack, foolbox.attacks.base.Attack):
                return attack(wrapped, floats, labels, epsilons=eps)[1]
            return torch.from_numpy(attack.generate(floats.numpy(), labels.numpy()))

        return images

    linf = {"eps": EPS / 255, "alpha": STEP / 255, "steps": STEPS}
    foolbox_linf = {"abs_stepsize": STEP / 255, "steps": STEPS}
    # ART asks three times a proposal: whom it fools so far, their loss, and that of the proposal.
    art = {"max_iter": queries // 3, "batch_size": 64, "verbose": False}

    def square(norm: str, area: float) -> dict[str, Peer]:
        eps = EPS / 255 if norm == "Linf" else L2 / 255
        order = np.inf if norm == "Linf" else 2
        return {
            f"torchattacks, area {area:g}": theirs(
                torchattacks.Square(
                    model, norm=norm, eps=eps, n_queries=queries, p_init=area, loss="margin"
                )
            ),
            f"ART, area {area:g}": theirs(
                evasion.SquareAttack(estimator, norm=order, eps=eps, p_init=area, **art)
            ),
        }

    return {
        "fgsm": (
            FGSM(eps=EPS),
            {
                "torchattacks": theirs(torchattacks.FGSM(model, eps=EPS / 255)),
                "foolbox": theirs(foolbox.attacks.FGSM(), eps=EPS / 255),
            },
            False,
        ),
        "pgd": (
            PGD(eps=EPS, steps=STEPS, step_size=STEP),
            {
                "torchattacks": theirs(torchattacks.PGD(model, **linf)),
                "foolbox": theirs(foolbox.attacks.LinfPGD(**foolbox_linf), eps=EPS / 255),
            },
            False,
        ),
        "mifgsm": (
            MIFGSM(eps=EPS, steps=STEPS),
            {
                "torchattacks": theirs(
                    torchattacks.MIFGSM(model, **linf | {"alpha": EPS / 255 / STEPS})
                )
            },
            False,
        ),
        "deepfool": (
            DeepFool(),
            {
                "torchattacks": theirs(torchattacks.DeepFool(model)),
                "foolbox": theirs(foolbox.attacks.L2DeepFoolAttack()),
            },
            True,
        ),
        "cw": (
            CW(steps=100, searches=6),
            {
                "foolbox": theirs(
                    foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=6, steps=100)
                ),
                "torchattacks": theirs(torchattacks.CW(model, steps=600)),
            },
            True,
        ),
        "square": (Square(eps=EPS, queries=queries), square("Linf", 0.8), False),
        "square_l2": (
            Square(eps=L2, norm="l2", queries=queries),
            square("L2", 0.1) | square("L2", 0.8),
            False,
        ),
        "de": (
            DifferentialEvolution(pixels=5, generations=queries // POPULATION - 1),
            {
                "torchattacks": theirs(
                    torchattacks.OnePixel(
                        model, pixels=5, steps=queries // POPULATION - 1, popsize=POPULATION
                    )
                )
            },
            False,
        ),
        "boundary": (
            Boundary(queries=queries),
            {"foolbox": theirs(foolbox.attacks.BoundaryAttack(steps=queries))},
            True,
        ),
        "hopskipjump": (
            HopSkipJump(queries=queries),
            {"foolbox": theirs(foolbox.attacks.HopSkipJumpAttack(steps=max(1, queries // 150)))},
            True,
        ),
    }


def ours_on(attack: Attack, model: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """Return what this library makes of the images."""
    results = run(attack, model, images, Untargeted(labels)).results
    found = np.stack([result.adversarial for result in results])
    return torch.from_numpy(found).permute(0, 3, 1, 2) / 255


class Outcome:
    """Adversarial images rounded to 8 bits: whether they fool, and their norms."""

    def __init__(self, model: Classifier, clean: Tensor, labels: Tensor, found: Tensor) -> None:
        rounded = (found.detach().float() * 255).round().clamp(0, 255)
        with torch.no_grad():
            self.fooled = model(rounded / 255).argmax(1) != labels
        self.l2 = torch.linalg.vector_norm((rounded - clean).flatten(1), dim=1)


def line(one: Outcome, ours: Outcome, *, norms: bool) -> str:
    """Say how an attack fared, and how its changes compare with ours."""
    said = f"fooled {wilson(int(one.fooled.sum()), len(one.fooled))}"
    if one is ours:
        return said
    test = mcnemar(ours.fooled.numpy(), one.fooled.numpy())
    said += f"   only ours {test.only_first}, only this {test.only_second}, p = {test.p:.2g}"
    both = one.fooled & ours.fooled
    if norms and bool(both.any()):
        said += f"   median L2 {float(one.l2[both].median()):6.1f}"
        said += f" where ours is {float(ours.l2[both].median()):6.1f}, smaller on "
        said += str(wilson(int((ours.l2 < one.l2)[both].sum()), int(both.sum())))
    return said


def main() -> None:
    """Print a line an attack and library."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    np.random.seed(0)
    card, folder = find_models()[MODEL]
    model = load_model(card, folder, device=torch.device("cpu")).classifier
    images, labels = pictures(chosen.data, model, chosen.images)
    floats = images.float() / 255
    counter = Counter(model)
    for name, (attack, peers, norms) in trials(model, floats, labels, chosen.queries).items():
        if chosen.only and name not in chosen.only:
            continue
        found = partial(ours_on, attack, model, images, labels)
        own: Outcome | None = None
        for who, peer in {"bauta": found, **peers}.items():
            began = time.perf_counter()
            before = counter.images
            adversarial = peer()
            seconds, asked = time.perf_counter() - began, (counter.images - before) / len(images)
            one = Outcome(model, images.float(), labels, adversarial)
            own = own or one
            said = line(one, own, norms=norms)
            print(f"{name:12} {who:24} {said}   {asked:.0f} asked, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
