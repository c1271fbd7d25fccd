"""Models that jobs share, loaded once and kept warm."""

import logging
from dataclasses import dataclass

import numpy as np
import torch

from services.worker.faces.detection import FaceDetector
from services.worker.models.registry import (
    LoadedModel,
    ModelUnavailableError,
    assemble,
    default_model,
    find_models,
    load_model,
    parse_weights,
)
from services.worker.runtime.cache import ModelCache
from services.worker.runtime.context import JobContext
from shared.model_card import ModelCard
from shared.problems import Problem
from shared.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedDetector:
    """The face finder, with the memory it takes."""

    detector: FaceDetector
    bytes: int = 2 * 2**20


def face_detector(models: ModelCache, device: torch.device) -> FaceDetector:
    """Return the warm face finder."""
    key = ("faces", str(device))
    return models.get(key, lambda: LoadedDetector(FaceDetector(device=device))).detector


def mask_model(
    context: JobContext, *, model_id: str | None, tasks: tuple[str, ...] = ("mask", "mask3")
) -> LoadedModel:
    """Return a warm mask classifier; the default one of the first task when no id is given.

    The tenant's own models come first, then the operator's folder, then the shipped ones. Raises
    the problems ``unknown-model`` and ``model-unavailable``.
    """
    wanted = model_id or context.registry.default_model_id(tasks[0])
    registered = context.registry.model(wanted) if wanted else None
    if registered is None:
        return shipped_model(
            context.models, context.settings, context.device, model_id=wanted, tasks=tasks
        )
    card, read = registered
    _refuse_other_task(card, tasks)

    def load() -> LoadedModel:
        weights = parse_weights(card, read(), place="the registry's copy")
        return assemble(card, weights, device=context.device)

    key = (card.identity, str(context.device))
    try:
        return context.models.get(key, load)
    except ModelUnavailableError as error:
        raise Problem("model-unavailable", f"{error}.") from error


def shipped_model(
    models: ModelCache,
    settings: Settings,
    device: torch.device,
    *,
    model_id: str | None,
    tasks: tuple[str, ...] = ("mask", "mask3"),
) -> LoadedModel:
    """Return a warm mask classifier of the operator's folder or of those that are shipped."""
    root = settings.registry_dir
    try:
        wanted = model_id or default_model(tasks[0], root).id
        found = find_models(root).get(wanted)
        if found is None:
            raise Problem("unknown-model", f"There is no mask classifier {wanted!r}.")
        card, folder = found
        _refuse_other_task(card, tasks)
        key = (card.identity, str(device))
        return models.get(key, lambda: load_model(card, folder, device=device))
    except ModelUnavailableError as error:
        raise Problem("model-unavailable", f"{error}.") from error


def _refuse_other_task(card: ModelCard, tasks: tuple[str, ...]) -> None:
    if card.task not in tasks:
        raise Problem("unknown-model", f"There is no mask classifier {card.id!r}.")


def warm(models: ModelCache, settings: Settings, device: torch.device) -> None:
    """Load and run the default models once, so that the first job is as fast as the next."""
    try:
        loaded = shipped_model(models, settings, device, model_id=None)
    except Problem as problem:
        logger.warning("no mask classifier to warm up: %s", problem.detail)
        return
    height, width = loaded.classifier.input_size
    with torch.inference_mode():
        loaded.classifier(torch.zeros(1, 3, height, width, device=device))
    face_detector(models, device).detect(np.full((256, 256, 3), 127, dtype=np.uint8))
