"""``import-model``: an uploaded safetensors file becomes a registered model."""

import hashlib
import time

from services.worker.jobs.kit.provenance import device_name, model_used, versions
from services.worker.models.intake import ModelRejectedError, check_weights
from services.worker.runtime.context import JobContext
from shared.model_card import ModelCard
from shared.problems import Problem
from shared.results import Timing
from shared.results.import_model import ImportModelResult
from shared.specs.import_model import ImportModelSpec


def run(context: JobContext, spec: ImportModelSpec) -> ImportModelResult:
    """Check what the job was created with, and register it."""
    began = time.monotonic()
    with context.inputs.upload() as file:
        data = file.read()
    context.progress(1, 3, "checking the tensors")
    card = ModelCard(
        id=spec.id,
        task=spec.task,
        architecture=spec.architecture,
        classes=spec.classes,
        input_size=(spec.input_size, spec.input_size),
        crop_margin=spec.crop_margin,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        license=spec.license,
        lineage=spec.lineage,
        training_data=spec.training_data,
        training=spec.training,
        metrics=spec.metrics,
        threat_model=spec.threat_model,
        default=False,
    )
    try:
        loaded = check_weights(card, data, device=context.device)
    except ModelRejectedError as error:
        raise Problem("invalid-model", f"The model is refused: {error}.") from error
    context.progress(2, 3, "registering")
    context.registry.save_model(card, data)
    weights = loaded.classifier.state_dict()
    return ImportModelResult(
        parameters=spec.model_dump(mode="json"),
        models=(model_used(loaded),),
        device=device_name(context.device),
        versions=versions(),
        timing=Timing(total=round(time.monotonic() - began, 4)),
        model=card.id,
        tensors=len(weights),
        parameters_total=sum(tensor.numel() for tensor in weights.values()),
    )
