"""``import-model``: an uploaded file becomes a registered model."""

import hashlib
import time

from services.worker.jobs.kit.isolated import import_isolated
from services.worker.jobs.kit.provenance import versions
from services.worker.models.onnx_pack import ARCHITECTURE as ONNX
from services.worker.models.onnx_pack import pack_onnx
from services.worker.runtime.context import JobContext
from services.worker.runtime.isolated import ProcessLimits
from shared.model_card import ModelCard
from shared.results import ModelUsed, Timing
from shared.results.import_model import ImportModelResult
from shared.specs.import_model import ImportModelSpec

FUNCTION = "services.worker.models.upload:check_upload"
# A model is held as a file, as its tensors, as 32-bit ones of twice the size, and as a network.
_COPIES = 6


def run(context: JobContext, spec: ImportModelSpec) -> ImportModelResult:
    """Check what the job was created with, and register it."""
    began = time.monotonic()
    with context.inputs.upload() as file:
        data = file.read()
        stored = pack_onnx(data) if spec.architecture == ONNX else data
        card = _card(spec, stored)
        checked = import_isolated(
            context,
            FUNCTION,
            {"card": card.model_dump(mode="json")},
            files=(file,),
            limits=ProcessLimits(
                memory_bytes=context.settings.import_memory_bytes + _COPIES * len(data),
                file_bytes=2**20,
            ),
            refusal="ModelRejectedError",
            problem="invalid-model",
        )
    context.progress(2, 3, "registering")
    context.registry.save_model(card, stored)
    return ImportModelResult(
        parameters=spec.model_dump(mode="json"),
        models=(ModelUsed(id=card.id, architecture=card.architecture, sha256=card.sha256),),
        device="cpu",
        versions=versions(),
        timing=Timing(total=round(time.monotonic() - began, 4)),
        model=card.id,
        tensors=checked["tensors"],
        parameters_total=checked["parameters"],
    )


def _card(spec: ImportModelSpec, data: bytes) -> ModelCard:
    return ModelCard(
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
        preprocessing=spec.preprocessing.model_dump(mode="json") if spec.preprocessing else {},
        default=False,
    )
