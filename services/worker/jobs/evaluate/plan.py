"""What an ``evaluate`` job will do: its models, pictures, rows, and about how long they take."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel

from services.worker.attacks.base import Attack
from services.worker.datasets.labeled import LabeledImages
from services.worker.defenses.registry import build_chain
from services.worker.evaluation.setting import AnySize, Setting
from services.worker.jobs.kit.attacks import build_attack
from services.worker.models.registry import LoadedModel
from services.worker.stopping import CancelCheck
from shared.problems import Problem
from shared.specs.attack import AttackChoice
from shared.specs.evaluate import Chain, EvaluateSpec

CARVED_FROM = 2  # seams are carved from pictures of twice the classifier's input
PROBED = 16
GRADIENT_COST = 3.0  # of a forward and backward pass, in forward passes
UNDEFENDED = "none"
_MAIN = {"eps", "pixels"}


@dataclass(frozen=True)
class RowPlan:
    """A row to be made: the setting, the attack, and the undefended row beside it, if any."""

    key: str
    setting: Setting
    attack: Attack
    attack_name: str
    defense_name: str
    beside: str | None


def plan_rows(spec: EvaluateSpec, models: Sequence[LoadedModel]) -> list[RowPlan]:
    """Return all rows; an undefended one comes before those that are paired with it."""
    plans = []
    for loaded in models:
        chains: list[Chain] = [(), *spec.defenses]
        settings = [_setting(spec, loaded, chain) for chain in chains]
        inner = loaded.classifier.input_size[0]
        for side in sorted({setting.side for setting in settings}):
            bare = Setting(loaded.classifier, side)
            base = UNDEFENDED if side == inner else f"{UNDEFENDED}, from {side} px"
            for choice in spec.swept:
                alone = None if spec.defenses else loaded
                attack = build_attack(choice, positions=side**2, asks=alone)
                name = attack_name(choice, spec)
                beside = f"{loaded.card.sha256}/{base}/{name}"
                plans.append(RowPlan(beside, bare, attack, name, base, None))
                plans += [
                    RowPlan(
                        f"{loaded.card.sha256}/{defense_name(chain)}/{name}",
                        setting,
                        attack,
                        name,
                        defense_name(chain),
                        beside,
                    )
                    for chain, setting in zip(chains, settings, strict=True)
                    if chain and setting.side == side
                ]
    if len({plan.key for plan in plans}) < len(plans):
        raise Problem("invalid-input", "An attack or a defense is named twice.")
    return plans


def attack_name(choice: AttackChoice, spec: EvaluateSpec) -> str:
    """Name an attack by its main parameter and its non-default ones."""
    chosen = _unusual(choice) | (_MAIN & set(type(choice).model_fields))
    if spec.sweep is not None and spec.sweep.parameter in type(choice).model_fields:
        chosen |= {spec.sweep.parameter}
    shown = [f"{name} {_plain(getattr(choice, name))}" for name in sorted(chosen)]
    return f"{choice.name} ({', '.join(shown)})" if shown else choice.name


def defense_name(chain: Chain) -> str:
    """Name a chain of defenses by its non-default parameters."""
    names = []
    for step in chain:
        chosen = sorted(_unusual(step))
        shown = [f"{name} {_plain(getattr(step, name))}" for name in chosen]
        names.append(f"{step.name} ({', '.join(shown)})" if shown else step.name)
    return " + ".join(names)


def estimate_seconds(
    plans: Sequence[RowPlan],
    pictures: Callable[[RowPlan], LabeledImages],
    check: CancelCheck,
) -> float:
    """Return about how long the rows take at most, from passes over a few pictures."""
    draws: dict[int, float] = {}
    total = 0.0
    for plan in plans:
        check()
        images = pictures(plan)
        setting = plan.setting
        if id(setting) not in draws:
            draws[id(setting)] = setting.draw_ms(images.images[:PROBED]) / 1000
        attacking = most_passes(plan.attack, setting.side) * setting.draws_used
        judging = (2 + (plan.beside is not None)) * setting.draws_judged
        certifying = (
            setting.smoothing.samples + setting.smoothing.selection if setting.smoothing else 0
        )
        total += len(images) * (attacking + judging + certifying) * draws[id(setting)]
    return total


def most_passes(attack: Attack, side: int) -> float:
    """Return how many forward passes an image costs at most, gradients counted as three."""
    parameters: dict[str, Any] = dict(vars(attack))
    if attack.name == "exhaustive":
        return float(side**2 * len(parameters["lattice"]) ** 3)
    if "population" in parameters:
        return float(parameters["population"] * (parameters["generations"] + 1))
    if "queries" in parameters:
        return float(parameters["queries"])
    steps = attack.total_steps if attack.uses_gradients else 1
    return GRADIENT_COST * steps


def _setting(spec: EvaluateSpec, loaded: LoadedModel, chain: Chain) -> Setting:
    inner = loaded.classifier.input_size[0]
    if not chain:
        return Setting(loaded.classifier, inner)
    carves = any(step.name == "seam_carving" for step in chain)
    steps = []
    for step in chain:
        parameters = step.model_dump(exclude={"name", "protect_face"})
        if step.name == "seam_carving":
            parameters |= {"height": inner, "width": inner, "threads": torch.get_num_threads()}
        steps.append((step.name, parameters))
    try:
        defense = build_chain(steps, classifier=AnySize(loaded.classifier))
    except ValueError as error:
        raise Problem("invalid-input", f"{error}.") from error
    side = (spec.cut_size or CARVED_FROM * inner) if carves else inner
    return Setting(loaded.classifier, side, defense, spec.draws, spec.judged_draws)


def _unusual(choice: BaseModel) -> set[str]:
    # Not the fields that were set: a stored spec has them all.
    fields = type(choice).model_fields
    return {name for name, field in fields.items() if getattr(choice, name) != field.default}


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
