"""All attacks by name."""

from collections.abc import Mapping

from services.worker.attacks.apgd import APGD
from services.worker.attacks.base import Attack
from services.worker.attacks.bim import BIM
from services.worker.attacks.boundary import Boundary
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
from services.worker.attacks.sparse_rs import SparseRS
from services.worker.attacks.square import Square

ATTACKS: Mapping[str, type[Attack]] = {
    attack.name: attack
    for attack in (
        DifferentialEvolution,
        SparseRS,
        Exhaustive,
        JSMA,
        FGSM,
        BIM,
        MIFGSM,
        PGD,
        DeepFool,
        LBFGS,
        CW,
        APGD,
        Square,
        Boundary,
        HopSkipJump,
    )
}
