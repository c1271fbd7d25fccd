"""The rounds of ``evaluate``: learn from the attack's finds and be attacked again."""

from typing import Any

import torch
from torch import Tensor

from services.worker.datasets.labeled import LabeledImages
from services.worker.evaluation.metrics import wilson
from services.worker.evaluation.table import draw_rounds
from services.worker.jobs.evaluate.state import Work, as_rate
from services.worker.jobs.kit.attacks import build_attack
from services.worker.models.registry import LoadedModel
from services.worker.training import cycle
from shared.results.evaluate import Round


def make_rounds(job: Work) -> tuple[tuple[Round, ...], str | None]:
    """Learn from the attack's finds and be attacked again, as often as asked."""
    if not job.spec.rounds:
        return (), None
    loaded = job.models[0]
    attack = build_attack(job.spec.attacks[0], asks=loaded)
    held_out = job.material.of(loaded, loaded.classifier.input_size[0])
    training = job.material.training(loaded)
    rounds = []
    for number in range(job.spec.rounds + 1):
        name = f"round {number}"
        if name not in job.ledger:
            job.ledger.put(name, *_round(job, loaded, number, training=training))
        if number:
            job.ledger.forget(f"round {number - 1}")
        tensors, values = job.ledger.get(name)
        judged = f"judged {number}"
        if judged not in job.ledger:
            figures = cycle.judge_round(
                _learned(loaded, tensors),
                attack,
                held_out,
                finds=values["finds"],
                seed=job.spec.seed,
                progress=_told(job, f"round {number}, judging"),
                check_cancel=job.context.check,
            )
            successes = [figures.clean.successes, figures.robust.successes]
            job.ledger.put(judged, {}, {"successes": successes, "of": figures.clean.total})
        found = job.ledger.get(judged)[1]
        clean, robust = (wilson(count, found["of"]) for count in found["successes"])
        rounds.append((values["finds"], clean, robust))
        job.done += 1 + 2 * bool(number)
        job.say(f"round {number}: clean {clean}, under attack {robust}")
    picture = draw_rounds(
        [(clean, robust) for _, clean, robust in rounds],
        title=f"{loaded.card.id}, learning from {attack.name}",
    )
    curve = job.context.artifacts.put("cycle.png", picture, "image/png")
    shown = tuple(
        Round(round=number, finds=finds, clean=as_rate(clean), robust=as_rate(robust))
        for number, (finds, clean, robust) in enumerate(rounds)
    )
    return shown, curve


def _round(
    job: Work, loaded: LoadedModel, number: int, *, training: LabeledImages
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return weights and all finds after a round."""
    if number == 0:
        state = {f"weights.{k}": v.cpu() for k, v in loaded.classifier.state_dict().items()}
        shape = training.images.shape[1:]
        empty = torch.empty(0, *shape, dtype=torch.uint8), torch.empty(0, dtype=torch.long)
        return {**state, "images": empty[0], "labels": empty[1]}, {"finds": 0}
    before, _ = job.ledger.get(f"round {number - 1}")
    classifier, seed = _learned(loaded, before), job.spec.seed
    images, labels = cycle.find(
        classifier,
        build_attack(job.spec.attacks[0], asks=loaded),
        cycle.learnable(training, seed=seed),
        most=job.spec.finds,
        seed=seed + number,
        progress=_told(job, f"round {number}, attacking training images"),
        check_cancel=job.context.check,
    )
    finds = torch.cat([before["images"], images]), torch.cat([before["labels"], labels])
    classifier = cycle.retrain(
        classifier,
        training,
        finds,
        seed=seed,
        progress=_told(job, f"round {number}, learning"),
        check_cancel=job.context.check,
    )
    state = {f"weights.{k}": v.cpu().contiguous() for k, v in classifier.state_dict().items()}
    return {**state, "images": finds[0], "labels": finds[1]}, {"finds": len(finds[1])}


def _learned(loaded: LoadedModel, tensors: dict[str, Tensor]) -> Any:
    """Return the model of a round."""
    start = "weights."
    state = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
    return cycle.with_weights(loaded.classifier, state)


def _told(job: Work, where: str) -> Any:
    return lambda done, total, said: job.say(f"{where}: {done} of {total}, {said}")
