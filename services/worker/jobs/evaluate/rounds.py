"""The rounds of ``evaluate``: learn from the attack's finds and be attacked again."""

from typing import Any

import torch
from torch import Tensor

from services.worker.datasets.labeled import LabeledImages
from services.worker.evaluation.metrics import wilson
from services.worker.evaluation.table import draw_rounds
from services.worker.jobs.evaluate.state import Work
from services.worker.jobs.kit.attacks import build_attack
from services.worker.jobs.kit.files import File
from services.worker.jobs.kit.rates import as_rate
from services.worker.models.registry import LoadedModel
from services.worker.stopping import Progress
from services.worker.training import cycle
from shared.results.evaluate import Round


def make_rounds(job: Work) -> tuple[tuple[Round, ...], tuple[File, ...]]:
    """Train on the attack's successes and attack again, for each round."""
    if not job.spec.rounds:
        return (), ()
    loaded = job.models[0]
    attack = build_attack(job.spec.attacks[0], asks=loaded)
    held_out = job.material.of(loaded, loaded.classifier.input_size[0])
    training = job.material.training(loaded)
    rounds = []
    for number in range(job.spec.rounds + 1):
        name = f"round {number}"
        if name not in job.checkpoint:
            job.checkpoint.put(name, *_round(job, loaded, number, training=training))
        if number:
            job.checkpoint.forget(f"round {number - 1}")
        tensors, values = job.checkpoint.get(name)
        judged = f"judged {number}"
        if judged not in job.checkpoint:
            figures = cycle.judge_round(
                _learned(loaded, tensors),
                attack,
                held_out,
                finds=values["finds"],
                seed=job.spec.seed,
                progress=_progress_callback(job, f"round {number}, judging"),
                check_cancel=job.check,
            )
            successes = [figures.clean.successes, figures.robust.successes]
            job.checkpoint.put(judged, {}, {"successes": successes, "of": figures.clean.total})
        found = job.checkpoint.get(judged)[1]
        clean, robust = (wilson(count, found["of"]) for count in found["successes"])
        rounds.append((values["finds"], clean, robust))
        job.done += 1 + 2 * bool(number)
        job.say(f"round {number}: clean {clean}, under attack {robust}")
    picture = draw_rounds(
        [(clean, robust) for _, clean, robust in rounds],
        title=f"{loaded.card.id}, learning from {attack.name}",
    )
    shown = tuple(
        Round(round=number, finds=finds, clean=as_rate(clean), robust=as_rate(robust))
        for number, (finds, clean, robust) in enumerate(rounds)
    )
    return shown, (File("cycle.png", picture),)


def _round(
    job: Work, loaded: LoadedModel, number: int, *, training: LabeledImages
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return weights and all finds after a round."""
    if number == 0:
        state = {f"weights.{k}": v.cpu() for k, v in loaded.classifier.state_dict().items()}
        shape = training.images.shape[1:]
        empty = torch.empty(0, *shape, dtype=torch.uint8), torch.empty(0, dtype=torch.long)
        return {**state, "images": empty[0], "labels": empty[1]}, {"finds": 0}
    before, _ = job.checkpoint.get(f"round {number - 1}")
    classifier, seed = _learned(loaded, before), job.spec.seed
    images, labels = cycle.find(
        classifier,
        build_attack(job.spec.attacks[0], asks=loaded),
        cycle.learnable(training, seed=seed),
        most=job.spec.finds,
        seed=seed + number,
        progress=_progress_callback(job, f"round {number}, attacking training images"),
        check_cancel=job.check,
    )
    finds = torch.cat([before["images"], images]), torch.cat([before["labels"], labels])
    classifier = cycle.retrain(
        classifier,
        training,
        finds,
        seed=seed,
        progress=_progress_callback(job, f"round {number}, learning"),
        check_cancel=job.check,
    )
    state = {f"weights.{k}": v.cpu().contiguous() for k, v in classifier.state_dict().items()}
    return {**state, "images": finds[0], "labels": finds[1]}, {"finds": len(finds[1])}


def _learned(loaded: LoadedModel, tensors: dict[str, Tensor]) -> Any:
    """Return the model of a round."""
    start = "weights."
    state = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
    return cycle.with_weights(loaded.classifier, state)


def _progress_callback(job: Work, where: str) -> Progress:
    return lambda done, total, message: job.say(f"{where}: {done} of {total}, {message}")
