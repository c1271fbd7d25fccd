"""Checks an uploaded model, in one call with plain values: what imports run in another process."""

from typing import IO, Any, Protocol, TypedDict

from services.worker.models.header import read_header
from services.worker.models.onnx_pack import ARCHITECTURE as ONNX
from services.worker.models.onnx_pack import pack_onnx
from shared.model_card import ModelCard

RECOGNIZE = "recognize"


class Say(Protocol):
    """Is told how far the work is."""

    def __call__(self, done: int, total: int, message: str = "") -> None: ...


class Checked(TypedDict):
    """Size of a model that can be served."""

    tensors: int
    parameters: int


def check_upload(upload: IO[bytes], *, progress: Say, card: dict[str, Any]) -> Checked:
    """Check the file that a card describes; raises ``ModelRejectedError``.

    It is a safetensors file, or the ONNX file of a recognizer.
    """
    described = ModelCard.model_validate(card)
    if described.task == RECOGNIZE:
        return _recognizer(upload, described, progress)
    progress(0, 3, "reading the header")
    read_header(upload)
    from services.worker.models.intake import check_weights  # noqa: PLC0415 - PyTorch takes seconds

    progress(1, 3, "checking the tensors")
    upload.seek(0)
    loaded = check_weights(described, upload.read())
    weights = loaded.classifier.state_dict()
    return Checked(
        tensors=len(weights), parameters=sum(tensor.numel() for tensor in weights.values())
    )


def _recognizer(upload: IO[bytes], card: ModelCard, progress: Say) -> Checked:
    from services.worker.models.recognizer_intake import check_recognizer  # noqa: PLC0415

    upload.seek(0)
    data = upload.read()
    if card.architecture == ONNX:
        progress(0, 3, "checking the network")
        data = pack_onnx(data)
    else:
        progress(0, 3, "reading the header")
        upload.seek(0)
        read_header(upload)
    progress(1, 3, "embedding two pictures")
    weights = check_recognizer(card, data).state_dict()
    return Checked(
        tensors=len(weights), parameters=sum(tensor.numel() for tensor in weights.values())
    )
