"""Adversarial attacks on classifiers: pixel, gradient, score-based and decision-based."""

from typing import TYPE_CHECKING

from services.worker.public import lazy

if TYPE_CHECKING:
    from services.worker.attacks.apgd import APGD
    from services.worker.attacks.bim import BIM
    from services.worker.attacks.boundary import Boundary
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
    from services.worker.attacks.results import AttackBatch, AttackResult
    from services.worker.attacks.runner import run
    from services.worker.attacks.sparse_rs import SparseRS
    from services.worker.attacks.square import Square

__all__ = [
    "APGD",
    "BIM",
    "CW",
    "FGSM",
    "JSMA",
    "LBFGS",
    "MIFGSM",
    "PGD",
    "AttackBatch",
    "AttackResult",
    "Boundary",
    "DeepFool",
    "DifferentialEvolution",
    "Exhaustive",
    "HopSkipJump",
    "Region",
    "SparseRS",
    "Square",
    "Targeted",
    "Untargeted",
    "run",
]

__getattr__ = lazy(
    __name__,
    {
        "apgd": ("APGD",),
        "bim": ("BIM",),
        "boundary": ("Boundary",),
        "criteria": (
            "Targeted",
            "Untargeted",
        ),
        "cw": ("CW",),
        "de": ("DifferentialEvolution",),
        "deepfool": ("DeepFool",),
        "exhaustive": ("Exhaustive",),
        "fgsm": ("FGSM",),
        "hopskipjump": ("HopSkipJump",),
        "jsma": ("JSMA",),
        "lbfgs": ("LBFGS",),
        "mifgsm": ("MIFGSM",),
        "pgd": ("PGD",),
        "region": ("Region",),
        "results": (
            "AttackBatch",
            "AttackResult",
        ),
        "runner": ("run",),
        "sparse_rs": ("SparseRS",),
        "square": ("Square",),
    },
)
