"""Face recognizers: aligned faces in, unit embeddings out."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from services.worker.models import dlib_network
from services.worker.models.base import IMAGENET_MEAN, IMAGENET_STD
from services.worker.models.embedders import MobileFaceNet, PooledEmbedder, ResidualEmbedder
from services.worker.models.onnx_pack import ARCHITECTURE as ONNX
from services.worker.models.onnx_pack import TENSOR
from services.worker.models.registry import ModelUnavailableError, read_weights
from shared.memory import is_out_of_memory
from shared.model_card import ModelCard, Preprocessing

INNER = 112  # side of ArcFace's crop, the middle of it
FRAME = 160  # side of the frame of services.worker.faces.alignment
HALVES = (0.5, 0.5, 0.5)
TASK = "recognize"


@dataclass(frozen=True)
class Window:
    """A square of the 160 px frame: its left and upper edge and its side, in pixels."""

    left: float
    top: float
    side: float


class Recognizer(nn.Module):
    """An embedding network with its normalization.

    ``forward`` takes aligned faces ``(N, 3, S, S)``, RGB in [0, 1], ``S = input_size[0]``, and
    returns embeddings ``(N, D)`` of length 1; the cosine similarity of two faces is their product.
    Of the 160 px frame of ``services.worker.faces.alignment`` a network takes the part that it was
    trained on: its ``window``, or the inner ``input_size`` pixels. From the embeddings of a network
    that were not trained to have one length, ``center`` is taken first: the mean of many people's.
    """

    mean: Tensor
    std: Tensor
    center: Tensor
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
        window: Window | None = None,
        colors: Literal["rgb", "bgr"] = "rgb",
    ) -> None:
        super().__init__()
        self.network = network
        self.window = window
        self.colors = colors
        self.identifier = identifier
        self.architecture = architecture
        self.input_size = input_size
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        # What the embeddings of people in general look like: no person's is among them.
        self.register_buffer("center", torch.zeros(0))
        self.register_buffer("face_mean", torch.zeros(0))
        self.register_buffer("face_covariance", torch.zeros(0, 0))

    def remember(self, embeddings: Tensor) -> None:
        """Keep the mean ``(D,)`` and covariance ``(D, D)`` of embeddings of many people."""
        self.face_mean = embeddings.mean(0)
        self.face_covariance = torch.cov(embeddings.T)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.mean.device

    @property
    def frame_side(self) -> int:
        """Side in pixels of the middle of the frame that ``of_frames`` needs at least."""
        if self.window is None:
            return self.input_size[0]
        edges = (self.window.left, self.window.top)
        reach = max(max(FRAME / 2 - edge, edge + self.window.side - FRAME / 2) for edge in edges)
        return min(FRAME, 2 * math.ceil(reach))

    @property
    def differentiable(self) -> bool:
        """Whether a search can use it: of an ONNX file only the answers are known."""
        return self.architecture != ONNX

    @property
    def knows_faces(self) -> bool:
        """Whether it has statistics of faces: weights of others come without."""
        return self.face_mean.numel() > 0

    def forward(self, faces: Tensor) -> Tensor:
        embeddings = self.raw(faces)
        return functional.normalize(embeddings - self.center if self.center.numel() else embeddings)

    def raw(self, faces: Tensor) -> Tensor:
        """Return what the network itself says of faces ``(N, 3, S, S)``: of any length."""
        if self.colors == "bgr":
            faces = faces.flip(1)
        embeddings: Tensor = self.network((faces - self.mean) / self.std).float()
        return embeddings

    def of_frames(self, frames: Tensor) -> Tensor:
        """Embed aligned frames ``(N, 3, F, F)``: the 160 px frame, or an inner part of it.

        ``F`` is at least ``frame_side``.
        """
        embeddings: Tensor = self(self.crops(frames))
        return embeddings

    def crops(self, frames: Tensor) -> Tensor:
        """Cut what the network takes, ``(N, 3, S, S)``, out of frames ``(N, 3, F, F)``."""
        side = self.input_size[0]
        if self.window is not None:
            return _window(frames, self.window, side)
        margin = (frames.shape[-1] - side) // 2
        return frames[..., margin : margin + side, margin : margin + side]


@dataclass(frozen=True)
class Embedder:
    """How to build the network of a recognizer, and what it takes."""

    build: Callable[[], nn.Module]
    size: int = 112
    mean: tuple[float, float, float] = HALVES
    std: tuple[float, float, float] = HALVES
    window: Window | None = None
    centered: bool = False  # whether embeddings come with a length and an offset of their own


def _window(frames: Tensor, window: Window, size: int) -> Tensor:
    """Sample a window of frames ``(N, 3, F, F)`` at ``(N, 3, size, size)``, differentiable."""
    given = frames.shape[-1]
    offset = (given - FRAME) / 2  # of the middle part of a frame
    scale = window.side / given
    x = 2 * (window.left + offset + window.side / 2) / given - 1
    y = 2 * (window.top + offset + window.side / 2) / given - 1
    theta = torch.tensor([[scale, 0.0, x], [0.0, scale, y]]).to(frames)
    maps = theta.expand(len(frames), 2, 3)
    grid = functional.affine_grid(maps, [len(frames), 3, size, size], align_corners=False)
    return functional.grid_sample(frames, grid, padding_mode="border", align_corners=False)


def _facenet() -> nn.Module:
    # Imported here: it imports torchvision, which workers start without.
    from facenet_pytorch import InceptionResnetV1  # noqa: PLC0415

    # Without this it would ask for its weights on the network.
    network: nn.Module = InceptionResnetV1(pretrained=None, classify=False)
    return network


# Where dlib's ``get_face_chip`` of 150 px with a padding of a quarter lies in the frame: the median
# of many photos, each within 3 px of it.
DLIB_WINDOW = Window(left=31.2, top=45.7, side=97.7)
EMBEDDERS: Mapping[str, Embedder] = {
    "mobilefacenet": Embedder(MobileFaceNet, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    "pooled_embedder": Embedder(PooledEmbedder),
    "residual_embedder": Embedder(ResidualEmbedder),
    "facenet": Embedder(_facenet, size=160),
    "dlib_resnet": Embedder(
        dlib_network.DlibResNet,
        size=dlib_network.SIDE,
        mean=dlib_network.MEAN,
        std=dlib_network.STD,
        window=DLIB_WINDOW,
        centered=True,
    ),
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
        window=found.window,
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
        if is_out_of_memory(error):
            raise
        raise ModelUnavailableError(f"{path} holds more than tensors") from error
    recognizer = build_recognizer(architecture, identifier=path.stem)
    try:
        recognizer.network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise ModelUnavailableError(f"{path} is no {architecture}: {error}") from error
    return frozen(recognizer)


def recognizer_of(card: ModelCard, folder: Path) -> Recognizer:
    """Load a recognizer of the registry; raises ``ModelUnavailableError``."""
    return assemble_recognizer(card, read_weights(card, folder))


def assemble_recognizer(card: ModelCard, state: dict[str, Tensor]) -> Recognizer:
    """Make a recognizer of checked weights; raises ``ModelUnavailableError`` when they misfit."""
    state = dict(state)
    try:
        if card.architecture == ONNX:
            recognizer = _of_onnx_card(card, state.pop(TENSOR, torch.zeros(0)))
        else:
            recognizer = build_recognizer(card.architecture, identifier=card.id)
        recognizer.center = state.pop("center", torch.zeros(0))
        recognizer.face_mean = state.pop("face_mean", torch.zeros(0))
        recognizer.face_covariance = state.pop("face_covariance", torch.zeros(0, 0))
        network = {name.removeprefix("network."): value for name, value in state.items()}
        recognizer.network.load_state_dict(network, strict=card.architecture != ONNX)
    except (ValueError, RuntimeError) as error:
        raise ModelUnavailableError(f"{card.id}: {error}") from error
    return frozen(recognizer)


def _of_onnx_card(card: ModelCard, data: Tensor) -> Recognizer:
    settings = Preprocessing.model_validate(card.preprocessing)
    found = recognizer_of_onnx(data.to(torch.uint8).numpy().tobytes(), card.id, settings)
    if found.input_size != card.input_size:
        raise ValueError(f"its input is {found.input_size} pixels, not {card.input_size}")
    return found


def recognizer_of_onnx(data: bytes, identifier: str, settings: Preprocessing) -> Recognizer:
    """Make a recognizer of an ONNX file; raises ``ValueError`` for one that is refused."""
    # Few jobs need onnxruntime, and workers start sooner without it.
    from services.worker.models.onnx_network import OnnxNetwork  # noqa: PLC0415

    network = OnnxNetwork(data)
    side = network.layout.side
    return Recognizer(
        network,
        identifier=identifier,
        architecture=ONNX,
        input_size=(side, side),
        mean=(settings.mean,) * 3,
        std=(settings.std,) * 3,
        window=Window(*settings.window) if settings.window else _inner(side),
        colors=settings.colors,
    )


def _inner(side: int) -> Window | None:
    """Return ArcFace's crop for networks of another size than its 112 pixels or our frame."""
    return None if side in (INNER, FRAME) else Window(*((FRAME - INNER) / 2,) * 2, INNER)


def frozen(recognizer: Recognizer) -> Recognizer:
    """Return it ready to serve: ``eval()``, parameters frozen, laid out for convolutions."""
    recognizer.eval().requires_grad_(False)
    return recognizer.to(memory_format=torch.channels_last)
