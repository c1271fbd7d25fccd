"""Builds the attacks that specs name."""

from services.worker.attacks.base import Attack
from services.worker.attacks.catalog import ATTACKS
from services.worker.models.registry import LoadedModel
from services.worker.training.presets import bf16_helps
from shared.problems import Problem
from shared.specs.attack import AttackChoice

# Attacks that search within a bound may query in bfloat16; each find is confirmed in float32.
# The others follow differences that bfloat16 rounds away.
SEARCHED_IN_BF16 = ("de", "sparse_rs", "bim", "mifgsm", "pgd", "apgd", "square")


def build_attack(
    choice: AttackChoice, *, positions: int | None = None, asks: LoadedModel | None = None
) -> Attack:
    """Build an attack of the spec; raises ``invalid-input`` for parameters that do not go.

    ``positions`` are the pixels of the pictures, where that is known already. ``asks``: the model
    that is queried directly, without a defense or photo around it; candidates are then queried in
    bfloat16 where that is faster, and each success is confirmed in float32.
    """
    parameters = choice.model_dump(exclude={"name"})
    if asks is not None and choice.name in SEARCHED_IN_BF16:
        parameters["search_bf16"] = bf16_helps(asks.card.architecture, asks.device)
    if choice.name == "exhaustive" and positions is not None:
        parameters["most_positions"] = positions
    try:
        return ATTACKS[choice.name](**parameters)
    except ValueError as error:
        raise Problem("invalid-input", f"{choice.name}: {error}.") from error
