"""Measures recognizers on people whom they never saw, and takes an operator's own ones in."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load

from services.worker.datasets.identities import Identities
from services.worker.evaluation.identification import leave_one_out, rank_rate, threshold_at
from services.worker.models.intake import ModelRejectedError
from services.worker.models.operator_import import tensors_of
from services.worker.models.recognizers import (
    EMBEDDERS,
    TASK,
    Recognizer,
    build_recognizer,
    frozen,
    recognizer_of_onnx,
)
from services.worker.models.registry import write_weights
from services.worker.training.embedding import as_images, embed
from shared.model_card import ModelCard, Preprocessing

FALSE_ACCEPTS = (0.01, 0.001)
BATCH = 64
MOST_AVERAGED = 1024  # photos that the center is the mean of


def settle(recognizer: Recognizer, people: Identities) -> None:
    """Take the mean of people's embeddings as the center of a recognizer that needs one."""
    embedder = EMBEDDERS.get(recognizer.architecture)
    if embedder is None or not embedder.centered:
        return
    with torch.inference_mode():
        raw = [
            recognizer.raw(recognizer.crops(part.float() / 255))
            for part in _images(recognizer, people)[:MOST_AVERAGED].split(BATCH)
        ]
    recognizer.center = torch.cat(raw).mean(0).half().float()  # as it may be stored


def measure(recognizer: Recognizer, strangers: Identities) -> dict[str, Any]:
    """Return a card's metrics, and keep the statistics of faces in the recognizer.

    Raises ``ValueError`` where there are too few people, or someone has one photo only.
    """
    embeddings = embed(recognizer, _images(recognizer, strangers)).numpy()
    rank_1 = rank_rate(leave_one_out(embeddings, strangers.people), 1)
    similar = embeddings @ embeddings.T
    pairs = np.triu(np.ones_like(similar, dtype=bool), 1)
    different = pairs & (strangers.people[:, None] != strangers.people[None])
    recognizer.remember(torch.from_numpy(embeddings))
    return {
        "rank_1": round(rank_1.value, 4),
        "rank_1_interval": [round(rank_1.low, 4), round(rank_1.high, 4)],
        "rank_1_measured": "each photo against all others of the people below",
        "thresholds": {
            f"{rate:g}": round(threshold_at(similar[different], rate), 4) for rate in FALSE_ACCEPTS
        },
        "measured_on": (
            f"{int(different.sum())} pairs of {len(strangers.names)} people that it was not "
            "trained on"
        ),
    }


def _images(recognizer: Recognizer, people: Identities) -> torch.Tensor:
    if recognizer.input_size[0] < people.frames.shape[1] and recognizer.window is None:
        return as_images(people.frames)
    return torch.from_numpy(np.ascontiguousarray(people.frames.transpose(0, 3, 1, 2)))


def import_recognizer(
    file: Path,
    root: Path,
    strangers: Identities,
    *,
    sha256: str,
    model_id: str,
    architecture: str,
    people_groups: tuple[str, ...],
    lineage: tuple[str, ...] = (),
    license_: str = "not stated",
    preprocessing: Preprocessing | None = None,
) -> ModelCard:
    """Write ``<root>/<id>/`` from an operator's ``.pt``, ``.safetensors`` or ``.onnx`` file.

    The hash is checked before the file is parsed, and only tensors are read; of an ONNX file, a
    network of known operators (``check_onnx``), to which ``preprocessing`` belongs. ``strangers``
    are people whom it was not trained on: thresholds and statistics come from them. Raises
    ``ModelRejectedError``, ``ValueError`` for people that do not suffice, and ``OSError``.
    """
    data = file.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256.lower():
        raise ModelRejectedError(f"{file.name} has SHA-256 {found}, not {sha256}")
    if (root / model_id).exists():
        raise ModelRejectedError(f"there is a model {model_id!r} already")
    if file.suffix == ".onnx":
        recognizer = _of_onnx(data, model_id, preprocessing or Preprocessing.model_validate({}))
    else:
        recognizer = _of_tensors(data, file, architecture, model_id)
    settle(recognizer, strangers)
    metrics = measure(recognizer, strangers)
    return write_weights(
        recognizer,
        root,
        id=model_id,
        task=TASK,
        architecture=recognizer.architecture,
        classes=(),
        input_size=recognizer.input_size,
        crop_margin=0.0,
        license=license_,
        lineage=lineage,
        training_data={"people_groups": list(people_groups), "file_sha256": found},
        training={},
        metrics=metrics,
        preprocessing=preprocessing.model_dump(mode="json") if preprocessing else {},
    )


def _of_onnx(data: bytes, model_id: str, preprocessing: Preprocessing) -> Recognizer:
    try:
        return frozen(recognizer_of_onnx(data, model_id, preprocessing))
    except ValueError as error:
        raise ModelRejectedError(f"it is refused: {error}") from error


def _of_tensors(data: bytes, file: Path, architecture: str, model_id: str) -> Recognizer:
    tensors = load(data) if file.suffix == ".safetensors" else tensors_of(data, file.name)
    try:
        recognizer = build_recognizer(architecture, identifier=model_id)
        # A head that tells the people of training apart is not wanted.
        kept = {name: value for name, value in tensors.items() if not name.startswith("logits.")}
        recognizer.network.load_state_dict(kept)
    except (ValueError, RuntimeError) as error:
        raise ModelRejectedError(f"{file.name} is no {architecture}: {error}") from error
    return frozen(recognizer)
