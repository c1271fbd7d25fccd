"""The rows of ``evaluate``: attacks on models, through defenses, past a detector."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.worker.attacks.results import AttackBatch
from services.worker.datasets.labeled import LabeledImages
from services.worker.evaluation.outcomes import adversarial, join, pack_batch, unpack_batch
from services.worker.evaluation.robustness import (
    Certified,
    Draws,
    Row,
    attack_images,
    compare,
    transfer,
)
from services.worker.evaluation.setting import Answers, Setting
from services.worker.evaluation.table import as_csv, document, draw_sweep, draw_table
from services.worker.jobs.evaluate import detector
from services.worker.jobs.evaluate.plan import RowPlan
from services.worker.jobs.evaluate.state import Work
from services.worker.jobs.kit.files import File
from shared.results.evaluate import DetectorRow, TableRow

Tensors = dict[str, Tensor]


def make_rows(job: Work) -> list[Row]:
    """Make all rows, a part of the images at a time."""
    return [_row(job, plan) for plan in job.plans]


def _row(job: Work, plan: RowPlan) -> Row:
    data, loaded = job.pictures(plan), job.owner(plan)
    batches: list[AttackBatch] = []
    parts: list[Tensors] = []
    for numbers in job.parts(plan):
        name = job.piece(plan.key, numbers)
        if name not in job.checkpoint:
            job.checkpoint.put(name, *_attack_part(job, plan, data, numbers))
        tensors, values = job.checkpoint.get(name)
        parts.append(tensors)
        batches.append(unpack_batch(tensors, values))
        job.done += 1
        job.say(f"{loaded.card.id}, {plan.defense_name}, {plan.attack_name}")
    batch = join(batches)
    found = {name: torch.cat([part[name] for part in parts]).numpy() for name in _taken(parts[0])}
    return Row(
        model=loaded.card.id,
        defense=plan.defense_name,
        attack=plan.attack_name,
        sha256=loaded.card.sha256,
        indices=tuple(result.index for result in batch.results),
        clean=found["clean"].astype(bool),
        adaptive=batch,
        transferred=found["transferred"].astype(bool) if "transferred" in found else None,
        cost_ms=plan.setting.cost_ms(data.images),
        draws=_draws(plan.setting, found),
        certified=_certified(plan.setting, found),
    )


def _taken(part: Tensors) -> list[str]:
    """Name what is kept of the pictures beside the attack's own results."""
    return [
        n for n in part if n in ("clean", "transferred") or n.startswith(("draws.", "certified."))
    ]


def _draws(setting: Setting, found: dict[str, NDArray[Any]]) -> Draws | None:
    if not setting.random:
        return None
    return Draws(
        count=setting.draws_judged,
        averaged=setting.draws_used,
        attacked=found["draws.attacked"].astype(bool),
        clean_share=found["draws.clean_share"],
        attacked_share=found["draws.attacked_share"],
    )


def _certified(setting: Setting, found: dict[str, NDArray[Any]]) -> Certified | None:
    if setting.smoothing is None:
        return None
    right, radius = found["certified.right"].astype(bool), found["certified.radius"]
    return Certified(setting.smoothing, right, radius)


def _attack_part(
    job: Work, plan: RowPlan, data: LabeledImages, numbers: range
) -> tuple[Tensors, dict[str, Any]]:
    start, chosen = numbers.start, data.select(numbers)
    check, seed = job.check, job.spec.seed
    where = f"{job.owner(plan).card.id}, {plan.defense_name}, from image {start}"
    batch = attack_images(
        plan.setting,
        plan.attack,
        chosen.images,
        chosen.labels,
        indices=numbers,
        seed=seed,
        progress=lambda done, total, message: job.say(
            f"{where}: step {done} of {total}, {message}"
        ),
        check_cancel=check,
    )

    def ask(images: Tensor) -> Answers:
        return plan.setting.answers(images, seed=seed, first=start, check_cancel=check)

    # The pictures are only needed where a defense will be shown them.
    shown = any(other.beside == plan.key for other in job.plans)
    tensors, values = pack_batch(batch, pictures=shown)
    clean = ask(chosen.images)
    tensors["clean"] = clean.right(chosen.labels).byte()
    if plan.setting.random:
        attacked = ask(adversarial(batch))
        tensors["draws.attacked"] = attacked.right(chosen.labels).byte()
        tensors["draws.clean_share"] = clean.share(chosen.labels)
        tensors["draws.attacked_share"] = attacked.share(chosen.labels)
    if plan.setting.smoothing is not None:
        found = plan.setting.certify(chosen.images, seed=seed, first=start, check_cancel=check)
        given = [-1 if certificate.label is None else certificate.label for certificate in found]
        tensors["certified.right"] = (torch.tensor(given) == chosen.labels).byte()
        radii = [certificate.radius for certificate in found]
        tensors["certified.radius"] = torch.tensor(radii, dtype=torch.float64)
    if job.detects(plan):
        loaded = job.owner(plan)
        tensors["scores.clean"] = detector.scores(loaded, chosen.images, check=check)
        tensors["scores.attacked"] = detector.scores(loaded, adversarial(batch), check=check)
    if plan.beside is not None:
        undefended = unpack_batch(*job.checkpoint.get(job.piece(plan.beside, numbers)))
        moved = transfer(
            plan.setting, undefended, chosen.labels, seed=seed, first=start, check_cancel=check
        )
        tensors["transferred"] = torch.from_numpy(moved.astype(np.uint8))
    return tensors, values


def make_table(job: Work, rows: list[Row]) -> tuple[tuple[TableRow, ...], dict[str, File]]:
    """Compare the rows and draw the table; the files by the result's fields."""
    if not rows:
        return (), {}
    made = {plan.key: row for plan, row in zip(job.plans, rows, strict=True)}
    documents = [
        document(row, None if plan.beside is None else compare(row, made[plan.beside]))
        for plan, row in zip(job.plans, rows, strict=True)
    ]
    as_json = json.dumps(documents, indent=2).encode()
    files = {
        "table": File("table.png", draw_table(documents, title="under attack")),
        "csv": File("table.csv", as_csv(documents), "text/csv"),
        "json": File("table.json", as_json, "application/json"),
    }
    if job.spec.sweep is not None:
        picture = draw_sweep(documents, job.spec.sweep.parameter)
        files["sweep"] = File("sweep.png", picture)
    return tuple(TableRow.model_validate(found) for found in documents), files


def judge_detector(job: Work, rows: list[Row]) -> tuple[tuple[DetectorRow, ...], tuple[File, ...]]:
    """Judge the detector by the scores that were taken along with the rows."""
    found = []
    for plan, row in zip(job.plans, rows, strict=True):
        if not job.detects(plan):
            continue
        data = job.pictures(plan)
        parts = [job.checkpoint.get(job.piece(plan.key, part))[0] for part in job.parts(plan)]
        clean, attacked = (
            torch.cat([part[f"scores.{kind}"] for part in parts]).numpy()
            for kind in ("clean", "attacked")
        )
        found.append(detector.Scored(row, clean, attacked, data.groups))
    if not found:
        return (), ()
    judged = detector.judge(found, job.spec, check=job.check)
    return tuple(judged), (File("detection.png", detector.draw(found)),)


def uncalibrated(rows: Sequence[DetectorRow]) -> tuple[str, ...]:
    """Return a sentence for each model whose detector has no threshold."""
    names = dict.fromkeys(row.model for row in rows if row.threshold is None)
    return tuple(
        f"the detector is not calibrated for {name}: there is its ROC area alone" for name in names
    )
