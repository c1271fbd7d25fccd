"""Checks recognizers from strangers before they are taken in."""

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from services.worker.models.header import ModelRejectedError
from services.worker.models.recognizers import Recognizer, assemble_recognizer
from services.worker.models.registry import ModelUnavailableError
from shared.memory import is_out_of_memory
from shared.model_card import ModelCard


def check_recognizer(card: ModelCard, data: bytes) -> Recognizer:
    """Return the recognizer that ``data``, a safetensors file, holds.

    Its embeddings of two pictures must be finite and differ. Raises ``ModelRejectedError``.
    """
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ModelRejectedError(f"it is not a safetensors file ({error})") from error
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelRejectedError(f"{name} holds values that are not finite")
    floats = {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}
    try:
        recognizer = assemble_recognizer(card, floats)
    except ModelUnavailableError as error:
        raise ModelRejectedError(str(error)) from error
    faces = torch.rand(2, 3, *card.input_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        try:
            embeddings = recognizer(faces)
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            if is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0][:200]
            raise ModelRejectedError(f"it does not embed a picture ({reason})") from error
    if not bool(torch.isfinite(embeddings).all()):
        raise ModelRejectedError("its embeddings are not finite")
    if bool(torch.allclose(embeddings[0], embeddings[1], atol=1e-6)):
        raise ModelRejectedError("it embeds two pictures alike")
    return recognizer
