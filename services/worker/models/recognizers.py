"""Face recognizers: aligned faces in, unit embeddings out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from services.worker.models.base import IMAGENET_MEAN, IMAGENET_STD
from services.worker.models.embedders import MobileFaceNet, PooledEmbedder, ResidualEmbedder
from services.worker.models.registry import ModelUnavailableError, parse_weights
from shared.model_card import WEIGHTS_FILE, ModelCard

HALVES = (0.5, 0.5, 0.5)
TASK = "recognize"


class Recognizer(nn.Module):
    """An embedding network with its normalization.

    ``forward`` takes aligned faces ``(N, 3, S, S)``, RGB in [0, 1], ``S = input_size[0]``, and
    returns embeddings ``(N, D)`` of length 1; the cosine similarity of two faces is their product.
    Of the 160 px frame of ``services.worker.faces.alignment`` a network of 112 px takes the inner
    part, one of 160 px all of it.
    """

    mean: Tensor
    std: Tensor
    face_mean: Tensor
    face_covariance: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        identifier: str,
        architecture: str,
        input_size: tuple[int, int],
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.network = network
        self.identifier = identifier
        self.architecture = architecture
        self.input_size = input_size
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        # What the embeddings of people in general look like: no person's is among them.
        self.register_buffer("face_mean", torch.zeros(0))
        self.register_buffer("face_covariance", torch.zeros(0, 0))

    def remember(self, embeddings: Tensor) -> None:
        """Keep the mean ``(D,)`` and covariance ``(D, D)`` of embeddings of many people."""
        self.face_mean = embeddings.mean(0)
        self.face_covariance = torch.cov(embeddings.T)

    @property
    def knows_faces(self) -> bool:
        """Whether it has statistics of faces: weights of others come without."""
        return self.face_mean.numel() > 0

    def forward(self, faces: Tensor) -> Tensor:
        return functional.normalize(self.network((faces - self.mean) / self.std).float())

    def of_frames(self, frames: Tensor) -> Tensor:
        """Embed aligned frames ``(N, 3, F, F)`` with ``F >= input_size``: their inner part."""
        margin = (frames.shape[-1] - self.input_size[0]) // 2
        side = self.input_size[0]
        inner = frames[..., margin : margin + side, margin : margin + side]
        embeddings: Tensor = self(inner)
        return embeddings


@dataclass(frozen=True)
class Embedder:
    """How to build the network of a recognizer, and what it takes."""

    build: Callable[[], nn.Module]
    size: int = 112
    mean: tuple[float, float, float] = HALVES
    std: tuple[float, float, float] = HALVES


def _facenet() -> nn.Module:
    # Imported here: it imports torchvision, which workers start without.
    from facenet_pytorch import InceptionResnetV1  # noqa: PLC0415

    # Without this it would ask for its weights on the network.
    network: nn.Module = InceptionResnetV1(pretrained=None, classify=False)
    return network


EMBEDDERS: Mapping[str, Embedder] = {
    "mobilefacenet": Embedder(MobileFaceNet, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    "pooled_embedder": Embedder(PooledEmbedder),
    "residual_embedder": Embedder(ResidualEmbedder),
    "facenet": Embedder(_facenet, size=160),
}


def build_recognizer(architecture: str, *, identifier: str) -> Recognizer:
    """Build a recognizer with fresh weights; raises ``ValueError`` for an unknown architecture."""
    found = EMBEDDERS.get(architecture)
    if found is None:
        raise ValueError(f"unknown recognizer {architecture!r}: use one of {tuple(EMBEDDERS)}")
    return Recognizer(
        found.build(),
        identifier=identifier,
        architecture=architecture,
        input_size=(found.size, found.size),
        mean=found.mean,
        std=found.std,
    )


def load_checkpoint(path: Path, architecture: str) -> Recognizer:
    """Load a third-party checkpoint (a PyTorch state dict) that the operator names.

    Only tensors are read (``weights_only``). Raises ``ModelUnavailableError`` when the file is
    missing or holds another network.
    """
    if not path.is_file():
        raise ModelUnavailableError(f"no checkpoint at {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling refuses in many ways
        raise ModelUnavailableError(f"{path} holds more than tensors") from error
    recognizer = build_recognizer(architecture, identifier=path.stem)
    try:
        recognizer.network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise ModelUnavailableError(f"{path} is no {architecture}: {error}") from error
    return frozen(recognizer)


def recognizer_of(card: ModelCard, folder: Path) -> Recognizer:
    """Load a recognizer of the registry; raises ``ModelUnavailableError``."""
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise ModelUnavailableError(f"{card.id}: no weights; put SHA-256 {card.sha256} at {path}")
    state = parse_weights(card, path.read_bytes(), place=str(path))
    try:
        recognizer = build_recognizer(card.architecture, identifier=card.id)
        recognizer.face_mean = state.pop("face_mean", torch.zeros(0))
        recognizer.face_covariance = state.pop("face_covariance", torch.zeros(0, 0))
        network = {name.removeprefix("network."): value for name, value in state.items()}
        recognizer.network.load_state_dict(network)
    except (ValueError, RuntimeError) as error:
        raise ModelUnavailableError(f"{card.id}: {error}") from error
    return frozen(recognizer)


def frozen(recognizer: Recognizer) -> Recognizer:
    """Return it ready to serve: ``eval()``, parameters frozen, laid out for convolutions."""
    recognizer.eval().requires_grad_(False)
    return recognizer.to(memory_format=torch.channels_last)
