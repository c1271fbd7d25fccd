"""Checks an uploaded model, in one call with plain values: what imports run in another process."""

from typing import IO, Any, Protocol, TypedDict

from services.worker.models.header import read_header
from shared.model_card import ModelCard


class Say(Protocol):
    """Is told how far the work is."""

    def __call__(self, done: int, total: int, message: str = "") -> None: ...


class Checked(TypedDict):
    """Size of a model that can be served."""

    tensors: int
    parameters: int


def check_upload(upload: IO[bytes], *, progress: Say, card: dict[str, Any]) -> Checked:
    """Check the safetensors file that a card describes; raises ``ModelRejectedError``."""
    progress(0, 3, "reading the header")
    read_header(upload)
    from services.worker.models.intake import check_weights  # noqa: PLC0415 - PyTorch takes seconds

    progress(1, 3, "checking the tensors")
    upload.seek(0)
    loaded = check_weights(ModelCard.model_validate(card), upload.read())
    weights = loaded.classifier.state_dict()
    return Checked(
        tensors=len(weights), parameters=sum(tensor.numel() for tensor in weights.values())
    )
