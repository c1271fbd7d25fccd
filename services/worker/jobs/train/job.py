"""``train``: makes a classifier of data sets and registers it."""

import copy
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from services.worker.datasets.packs import PackedDataset
from services.worker.datasets.splits import Sides
from services.worker.evaluation.metrics import wilson
from services.worker.jobs.kit.budget import require_batch
from services.worker.jobs.kit.duration import format_duration
from services.worker.jobs.kit.provenance import device_name, versions
from services.worker.jobs.kit.rates import as_accuracy
from services.worker.jobs.train.checkpoint import CheckpointedTraining, figures_of
from services.worker.jobs.train.inputs import (
    class_names,
    count,
    load_packs,
    read_sides,
    refuse_too_many,
)
from services.worker.jobs.train.pictures import draw_curves
from services.worker.jobs.train.plan import Plan, make_plan
from services.worker.jobs.train.sentences import how_to_use, warnings_of
from services.worker.jobs.train.start import Origin, find_model, load_teacher, start
from services.worker.models.base import Classifier
from services.worker.models.predict import predict
from services.worker.models.registry import LoadedModel, find_models, pack_weights
from services.worker.runtime.context import JobContext
from services.worker.stopping import Stopped
from services.worker.training.distill import Teacher
from services.worker.training.estimate import estimate_seconds
from services.worker.training.history import Trained
from shared.model_card import ModelCard
from shared.problems import Problem
from shared.results import ModelUsed, Timing
from shared.results.train import (
    Accuracy,
    DataUsed,
    HeldOutFigures,
    NewModel,
    TrainResult,
)
from shared.specs.train import Distillation, TrainSpec


@dataclass
class _Job:
    """The state of a running job."""

    context: JobContext
    spec: TrainSpec
    packs: Sequence[PackedDataset]
    plan: Plan
    classifier: Classifier
    origin: Origin
    teacher: LoadedModel | None
    estimated_seconds: float
    began: float


def run(context: JobContext, spec: TrainSpec) -> TrainResult:
    """Train, judge and register a model; a stopped job registers the best model so far."""
    job = _prepared(context, spec)
    phases: tuple[str, ...] = ("student",)
    if isinstance(spec.robust, Distillation) and job.teacher is None:
        phases = ("teacher", "student")
    training = CheckpointedTraining(context, job.plan, phases, job.estimated_seconds)
    job.plan = training.plan
    sides = read_sides(context, spec, job.packs, job.plan.classes, size=job.plan.size)
    trained = _train(job, training, sides)
    try:
        if trained.stopped is not None:
            raise trained.stopped
        context.progress(training.total, training.total + 1, "judging the model on the test split")
        test = _judged(job, sides)
    except Stopped as stop:
        if stop.ends_job:
            _register(job, sides, trained, test=None, stopped=True)
        raise
    title = f"{spec.model_id}, {job.plan.architecture}"
    picture = draw_curves(trained.history, trained.best, title=title)
    curves = context.artifacts.put("curves.png", picture, "image/png")
    card = _register(job, sides, trained, test=test, stopped=False)
    return _result(job, sides, trained, card, test, curves)


def _prepared(context: JobContext, spec: TrainSpec) -> _Job:
    """Decide, load and build everything but the images; says how long it will take."""
    began = time.monotonic()
    _refuse_taken_name(context, spec.model_id)
    packs = load_packs(context, spec)
    source = find_model(context, spec.source_model) if spec.source_model else None
    plan = make_plan(
        spec, class_names(spec, packs), context.device, source=source[0] if source else None
    )
    classifier = plan.build()
    origin = start(context, spec, classifier, source)
    counts = count(spec, packs, plan.classes)
    refuse_too_many(sum(counts.values()), plan.size)
    batch = min(plan.config.batch_size, counts["train"])
    require_batch(classifier, classifier.input_size, batch, "images to learn from")
    teacher = None
    runs = 1
    if isinstance(spec.robust, Distillation):
        if spec.robust.teacher is None:
            runs = 2
        else:
            teacher = load_teacher(context, spec.robust.teacher, plan)
    context.check()
    seconds = runs * estimate_seconds(
        classifier,
        plan.config,
        images=counts["train"],
        validation=counts["val"] or round(spec.validation_share * counts["train"]),
        device=context.device,
        perturb=plan.perturb,
        teacher=Teacher(teacher.classifier, plan.config.temperature) if teacher else None,
        head_only=spec.method.name == "features",
    )
    message = f"{counts['train']} images to learn from: at most about {format_duration(seconds)}"
    context.progress(0, 1, message, estimated_seconds=round(seconds, 1))
    return _Job(context, spec, packs, plan, classifier, origin, teacher, seconds, began)


def _refuse_taken_name(context: JobContext, model_id: str) -> None:
    """Raise ``model-exists`` before the work, unless an earlier attempt of this job made it."""
    earlier = context.registry.model(model_id)
    if earlier is None:
        taken = model_id in find_models(context.settings.registry_dir)
    else:
        taken = earlier[0].training.get("job") != context.job_id
    if taken:
        raise Problem("model-exists", f"There is a model {model_id!r} already.")


def _train(job: _Job, training: CheckpointedTraining, sides: Sides) -> Trained:
    """Run the phases that are left; returns the last one's outcome, the model in ``job``."""
    heat = job.plan.config.temperature
    if "teacher" in training.left:
        first = training.learn("teacher", copy.deepcopy(job.classifier), sides, None)
        if first.stopped is not None:
            raise first.stopped
        training.teacher_weights = dict(first.classifier.state_dict())
    teacher = None
    if job.teacher is not None:
        teacher = Teacher(job.teacher.classifier, heat)
    elif training.teacher_weights is not None:
        teacher = Teacher(_frozen(job, training.teacher_weights), heat)
    if job.spec.method.name == "features":
        return training.learn_head(job.classifier, sides)
    return training.learn("student", job.classifier, sides, teacher)


def _frozen(job: _Job, weights: dict[str, Tensor]) -> Classifier:
    classifier = job.plan.build()
    classifier.load_state_dict(weights)
    classifier.to(job.context.device).to(memory_format=torch.channels_last)
    classifier.eval().requires_grad_(False)
    return classifier


def _judged(job: _Job, sides: Sides) -> HeldOutFigures | None:
    """Return the only figures that the test split gives, after every choice was made."""
    if not len(sides.test):
        return None
    logits = predict(
        job.classifier,
        sides.test.images,
        device=job.context.device,
        check_cancel=job.context.check,
    )
    right = logits.argmax(1) == sides.test.labels
    recall = {
        name: as_accuracy(wilson(int(right[sides.test.labels == i].sum()), total))
        for i, (name, total) in enumerate(sides.test.counts.items())
    }
    return HeldOutFigures(accuracy=as_accuracy(wilson(int(right.sum()), len(right))), recall=recall)


def _validation(sides: Sides, trained: Trained) -> Accuracy:
    right = round(trained.best.val_accuracy * len(sides.val))
    return as_accuracy(wilson(right, len(sides.val)))


def _register(
    job: _Job, sides: Sides, trained: Trained, *, test: HeldOutFigures | None, stopped: bool
) -> ModelCard:
    spec, teacher = job.spec, job.teacher
    lineage = (*job.origin.lineage, *((teacher.card.id, *teacher.card.lineage) if teacher else ()))
    metrics: dict[str, Any] = {
        "validation_accuracy": _validation(sides, trained).model_dump(),
        "test_accuracy": test.accuracy.model_dump() if test else None,
        "test_recall": {name: r.model_dump() for name, r in test.recall.items()} if test else None,
    }
    if trained.best.robust_accuracy is not None:
        metrics["validation_accuracy_perturbed"] = trained.best.robust_accuracy
    card, weights = pack_weights(
        job.classifier,
        id=spec.model_id,
        task=spec.task,
        architecture=job.classifier.architecture,
        classes=job.classifier.classes,
        input_size=job.classifier.input_size,
        crop_margin=spec.crop_margin,
        license=spec.license,
        lineage=tuple(dict.fromkeys(lineage)),
        training_data=_training_data(job, sides),
        training=_training(job, trained, stopped=stopped),
        metrics=metrics,
    )
    job.context.registry.save_model(card, weights, stopped=stopped)
    return card


def _training_data(job: _Job, sides: Sides) -> dict[str, Any]:
    return {
        "sources": [f"{pack.card.name} ({pack.card.id})" for pack in job.packs],
        "counts": sides.train.counts,
        "fingerprint": sides.train.fingerprint,
        "validation_counts": sides.val.counts,
        "validation_fingerprint": sides.val.fingerprint,
    }


def _training(job: _Job, trained: Trained, *, stopped: bool) -> dict[str, Any]:
    return {
        "job": job.context.job_id,
        "spec": job.spec.model_dump(mode="json"),
        "config": asdict(job.plan.config),
        "best_epoch": trained.best.number + 1,
        "epochs": len(trained.history),
        "stopped": stopped,
        "seconds": round(trained.seconds, 1),
        "device": device_name(job.context.device),
        "versions": versions(),
    }


def _result(
    job: _Job,
    sides: Sides,
    trained: Trained,
    card: ModelCard,
    test: HeldOutFigures | None,
    curves: str,
) -> TrainResult:
    before = (*job.origin.used, *((job.teacher.card,) if job.teacher else ()))
    return TrainResult(
        parameters={
            **job.spec.model_dump(mode="json"),
            "architecture": job.plan.architecture,
            "input_size": job.plan.size,
            "classes": list(job.plan.classes),
            "config": asdict(job.plan.config),
        },
        models=tuple(
            ModelUsed(id=used.id, architecture=used.architecture, sha256=used.sha256)
            for used in before
        ),
        device=device_name(job.context.device),
        versions=versions(),
        timing=Timing(
            total=round(time.monotonic() - job.began, 4),
            parts={
                "training steps": round(trained.seconds, 4),
                "of these, reading data": round(trained.data_seconds, 4),
            },
        ),
        main_artifact=curves,
        warnings=tuple(warnings_of(sides, test)),
        model=NewModel(**card.model_dump(include=set(NewModel.model_fields))),
        how_to_use=how_to_use(card),
        data=DataUsed(
            training=sides.train.counts,
            validation=sides.val.counts,
            test=sides.test.counts,
            training_fingerprint=sides.train.fingerprint,
            validation_fingerprint=sides.val.fingerprint,
            validation_carved=sides.carved,
            left_out=sides.left_out,
        ),
        epochs=tuple(figures_of(epoch) for epoch in trained.history),
        best_epoch=trained.best.number + 1,
        stopped_early=len(trained.history) < job.plan.config.epochs,
        validation=_validation(sides, trained),
        test=test,
        estimated_seconds=round(job.estimated_seconds, 1),
        data_share=round(trained.data_seconds / trained.seconds, 4) if trained.seconds else 0.0,
        curves=curves,
    )
