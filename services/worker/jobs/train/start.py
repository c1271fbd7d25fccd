"""What a model of a ``train`` job starts from, and learns from: weights, and a teacher."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from services.worker.jobs.train.plan import Plan
from services.worker.models.base import Classifier
from services.worker.models.registry import (
    LoadedModel,
    ModelUnavailableError,
    assemble,
    find_models,
    parse_weights,
    read_weights,
)
from services.worker.runtime.context import JobContext
from services.worker.training.initial import adopt, imagenet_weights
from shared.model_card import ModelCard
from shared.problems import Problem
from shared.specs.train import TrainSpec

Found = tuple[ModelCard, dict[str, Tensor]]
TORCHVISION = "torchvision"  # the folder of ImageNet weights in the operator's registry


@dataclass(frozen=True)
class Origin:
    """What a model starts from: the line of models before it, and those that were loaded."""

    lineage: tuple[str, ...] = ()
    used: tuple[ModelCard, ...] = ()


def start(
    context: JobContext, spec: TrainSpec, classifier: Classifier, source: Found | None
) -> Origin:
    """Give the classifier the weights that the spec starts from: ``source``, if it is a model."""
    if spec.initialization.source == "imagenet":
        name, tensors = _imagenet(context, classifier.architecture)
        adopt(classifier, tensors)
        return Origin(lineage=(name,))
    if source is None:
        return Origin()
    card, tensors = source
    if card.architecture != classifier.architecture:
        raise Problem(
            "invalid-input",
            f"The model {card.id!r} is a {card.architecture}, not a {classifier.architecture}.",
        )
    adopt(classifier, tensors, keep_head=card.classes == classifier.classes)
    return Origin(lineage=(card.id, *card.lineage), used=(card,))


def load_teacher(context: JobContext, model_id: str, plan: Plan) -> LoadedModel:
    """Load a registered teacher; it must answer the student's question."""
    card, tensors = find_model(context, model_id)
    if card.classes != plan.classes or card.input_size != (plan.size, plan.size):
        raise Problem(
            "invalid-input",
            f"The teacher {card.id!r} has the classes {', '.join(card.classes)} and an input of "
            f"{card.input_size[0]} px; the student has {', '.join(plan.classes)} and "
            f"{plan.size} px.",
        )
    return assemble(card, tensors, device=context.device)


def find_model(context: JobContext, model_id: str) -> Found:
    """Return a model of any task: the tenant's, the operator's, or a shipped one.

    Raises the problems ``unknown-model`` and ``model-unavailable``.
    """
    registered = context.registry.model(model_id)
    try:
        if registered is not None:
            card, read = registered
            return card, parse_weights(card, read(), place="the registry's copy")
        found = find_models(context.settings.registry_dir).get(model_id)
        if found is None:
            raise Problem("unknown-model", f"There is no model {model_id!r}.")
        return found[0], read_weights(*found)
    except ModelUnavailableError as error:
        raise Problem("model-unavailable", f"{error}.") from error


def _imagenet(context: JobContext, architecture: str) -> tuple[str, dict[str, Tensor]]:
    mounted = context.settings.registry_dir / TORCHVISION
    folders = (mounted, Path(torch.hub.get_dir()) / "checkpoints")
    allowed = context.settings.allow_downloads
    try:
        return imagenet_weights(
            architecture, folders=folders, download_to=mounted if allowed else None
        )
    except ModelUnavailableError as error:
        text = str(error)
        raise Problem("model-unavailable", f"{text[0].upper()}{text[1:]}.") from error
