"""``evaluate``: judges models clean, under attack, defended, and over rounds of both."""

import time

from services.worker.datasets.packs import PackedDataset
from services.worker.evaluation.pictures import draw_errors, draw_report
from services.worker.evaluation.report import full_report
from services.worker.evaluation.robustness import find_faults
from services.worker.jobs.evaluate import detector
from services.worker.jobs.evaluate.checkpoint import EvaluateCheckpoint
from services.worker.jobs.evaluate.inputs import Material, load_models
from services.worker.jobs.evaluate.plan import (
    PROBED,
    estimate_seconds,
    plan_rows,
)
from services.worker.jobs.evaluate.rounds import make_rounds
from services.worker.jobs.evaluate.rows import judge_detector, make_rows, make_table, uncalibrated
from services.worker.jobs.evaluate.state import Work
from services.worker.jobs.kit.duration import format_duration
from services.worker.jobs.kit.files import store
from services.worker.jobs.kit.provenance import device_name, model_used, versions
from services.worker.jobs.kit.rates import as_figure, as_rate
from services.worker.models.predict import predict
from services.worker.models.registry import LoadedModel
from services.worker.runtime.context import JobContext
from services.worker.training import cycle
from shared.results import Timing
from shared.results.evaluate import EvaluateResult, ModelReport
from shared.specs.evaluate import EvaluateSpec


def run(context: JobContext, spec: EvaluateSpec) -> EvaluateResult:
    """Evaluate all models; each finished piece is saved, so that a later attempt resumes."""
    began = time.monotonic()
    job = _prepared(context, spec)
    seconds = _announce(job)
    reports = tuple(_report(context, job, loaded) for loaded in job.models)
    rows = make_rows(job)
    table, files = make_table(job, rows)
    store(context, files.values())
    detectors, detection = judge_detector(job, rows)
    store(context, detection)
    rounds, curve = make_rounds(job)
    store(context, curve)
    names = {field: file.name for field, file in files.items()}
    return EvaluateResult(
        parameters={
            **spec.model_dump(mode="json", exclude={"images", "labels"}),
            "models": [loaded.card.id for loaded in job.models],
        },
        models=tuple(model_used(loaded) for loaded in job.models),
        device=device_name(context.device),
        versions=versions(),
        timing=Timing(total=round(time.monotonic() - began, 4)),
        main_artifact=next(iter(names.values()), curve[0].name if curve else reports[0].picture),
        warnings=(*job.material.warnings, *find_faults(rows), *uncalibrated(detectors)),
        estimated_seconds=seconds,
        reports=reports,
        rows=table,
        detectors=detectors,
        rounds=rounds,
        table=names.get("table"),
        table_csv=names.get("csv"),
        table_json=names.get("json"),
        sweep=names.get("sweep"),
        detection=detection[0].name if detection else None,
        cycle=curve[0].name if curve else None,
    )


def _prepared(context: JobContext, spec: EvaluateSpec) -> Work:
    models = load_models(context, spec)
    pack = PackedDataset(context.inputs.dataset(spec.data.dataset)) if spec.data else None
    material = Material(context, spec, pack)
    checkpoint = EvaluateCheckpoint(context)
    plans = plan_rows(spec, models)
    return Work(spec, models, material, plans, checkpoint, context.check, context.progress)


def _announce(job: Work) -> float:
    """Count the work and say how long it will take."""
    chunks = sum(len(job.parts(plan)) for plan in job.plans)
    job.total = len(job.models) + chunks + 1 + 3 * job.spec.rounds + bool(job.spec.rounds)
    seconds = estimate_seconds(job.plans, job.pictures, job.check)
    for plan in filter(job.detects, job.plans):
        seconds += detector.seconds(
            job.owner(plan), job.pictures(plan), probed=PROBED, check=job.check
        )
    if job.spec.rounds:
        loaded = job.models[0]
        plan = job.plans[0]
        one = seconds * (1 + job.spec.finds / len(job.pictures(plan)))
        one += (
            cycle.RETRAIN.epochs
            * 3
            * len(job.material.training(loaded))
            * (plan.setting.cost_ms(job.pictures(plan).images) / 1000)
        )
        seconds += job.spec.rounds * one
    seconds = round(seconds, 3)
    job.say(
        f"{chunks} parts of {len(job.plans)} rows: at most about {format_duration(seconds)}",
        estimated_seconds=seconds,
    )
    return seconds


def _report(context: JobContext, job: Work, loaded: LoadedModel) -> ModelReport:
    """Judge a model on clean images; draw and store all of it."""
    data = job.material.of(loaded, loaded.classifier.input_size[0])
    logits = predict(loaded.classifier, data.images, device=loaded.device, check_cancel=job.check)
    probabilities, labels = logits.double().softmax(1).numpy(), data.labels.numpy()
    report = full_report(
        probabilities,
        labels,
        data.classes,
        groups=data.groups,
        sources=job.material.sources(loaded),
        seed=job.spec.seed,
        draws=job.spec.bootstrap,
        check_cancel=job.check,
    )
    name, put, whole = loaded.card.id[:60], context.artifacts.put, report.whole
    picture = draw_report(report, probabilities, labels, title=loaded.card.id)
    errors = draw_errors(data.images, probabilities, labels, data.classes)
    job.done += 1
    job.say(f"{loaded.card.id}: accuracy {whole.accuracy}")
    return ModelReport(
        model=loaded.card.id,
        images=len(data),
        counts=data.counts,
        fingerprint=data.fingerprint,
        accuracy=as_rate(whole.accuracy),
        recall={key: as_rate(figures.recall) for key, figures in whole.classes.items()},
        precision={key: as_rate(figures.precision) for key, figures in whole.classes.items()},
        macro_f1=as_figure(whole.macro_f1),
        weighted_f1=as_figure(whole.weighted_f1),
        roc_area=as_figure(whole.roc_area),
        calibration_error=as_figure(whole.calibration_error),
        sources={key: as_rate(part.accuracy) for key, part in report.sources.items()},
        picture=put(f"report-{name}.png", picture, "image/png"),
        errors=put(f"errors-{name}.jpg", errors, "image/jpeg") if errors else None,
        document=put(f"report-{name}.json", report.as_json(), "application/json"),
        csv=put(f"report-{name}.csv", report.as_csv(), "text/csv"),
    )
