"""Models on disk: a folder each, with safetensors and a card."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from services.worker.models.architectures import build
from services.worker.models.base import Classifier
from shared.model_card import CARD_FILE, WEIGHTS_FILE, ModelCard, list_cards

BUNDLED = Path(__file__).parent / "bundled"


class ModelUnavailableError(Exception):
    """A model's weights are missing or are not the ones its card describes."""


@dataclass(frozen=True)
class LoadedModel:
    """A classifier ready to serve: ``eval()``, parameters frozen, on its device."""

    classifier: Classifier
    card: ModelCard
    device: torch.device

    @property
    def bytes(self) -> int:
        """Memory that the weights take."""
        tensors = [*self.classifier.parameters(), *self.classifier.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def find_models(*roots: Path) -> dict[str, tuple[ModelCard, Path]]:
    """Return all models by id: those under ``roots``, then the bundled ones."""
    return list_cards(*roots, BUNDLED)


def default_model(task: str, *roots: Path) -> ModelCard:
    """Return the card of the model that serves ``task``; raises ``ModelUnavailableError``."""
    cards = [card for card, _ in find_models(*roots).values() if card.task == task]
    if not cards:
        raise ModelUnavailableError(f"no model for the task {task!r} is installed")
    return next((card for card in cards if card.default), cards[0])


def load_classifier(model_id: str, *roots: Path, device: torch.device | str = "cpu") -> Classifier:
    """Load a classifier by its name: one of the operator's folders, or a shipped one.

    Raises ``ModelUnavailableError`` for a name that is not there.
    """
    found = find_models(*roots).get(model_id)
    if found is None:
        raise ModelUnavailableError(f"there is no model {model_id!r}")
    return load_model(*found, device=device).classifier


def load_model(card: ModelCard, folder: Path, *, device: torch.device | str = "cpu") -> LoadedModel:
    """Load a classifier. The weights' hash, names, shapes and values are checked.

    Raises ``ModelUnavailableError`` with the path and hash that were expected.
    """
    return assemble(card, read_weights(card, folder), device=device)


def assemble(
    card: ModelCard, weights: dict[str, Tensor], *, device: torch.device | str = "cpu"
) -> LoadedModel:
    """Make a classifier of checked weights; raises ``ModelUnavailableError`` when they misfit."""
    try:
        classifier = build(card.architecture, classes=card.classes, input_size=card.input_size[0])
        classifier.load_state_dict(weights)
    except (ValueError, RuntimeError) as error:
        raise ModelUnavailableError(f"{card.id}: {error}") from error
    classifier.eval().requires_grad_(False)
    target = torch.device(device)
    placed = classifier.to(target).to(memory_format=torch.channels_last)
    return LoadedModel(placed, card, target)


def read_weights(card: ModelCard, folder: Path) -> dict[str, Tensor]:
    """Read a model's weights, as float32 where they are floating; hash and values are checked.

    Raises ``ModelUnavailableError`` with the path and hash that were expected.
    """
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise ModelUnavailableError(f"{card.id}: no weights; put SHA-256 {card.sha256} at {path}")
    return parse_weights(card, path.read_bytes(), place=str(path))


def parse_weights(card: ModelCard, data: bytes, *, place: str) -> dict[str, Tensor]:
    """Read safetensors as ``read_weights`` does; ``place`` names them in errors."""
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise ModelUnavailableError(f"{card.id}: {place} does not have SHA-256 {card.sha256}")
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ModelUnavailableError(f"{card.id}: {place} is not safetensors: {error}") from error
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise ModelUnavailableError(f"{card.id}: the weights hold values that are not finite")
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }


def save_model(
    classifier: Classifier, root: Path, *, half: bool = False, **card_fields: object
) -> ModelCard:
    """Write a classifier to ``<root>/<id>/``: weights and the card, which is returned."""
    return write_weights(
        classifier,
        root,
        half=half,
        architecture=classifier.architecture,
        classes=classifier.classes,
        input_size=classifier.input_size,
        **card_fields,
    )


def write_weights(
    network: nn.Module, root: Path, *, half: bool = False, **card_fields: object
) -> ModelCard:
    """Write a network's weights (float16 with ``half``) and card to ``<root>/<id>/``."""
    card, data = pack_weights(network, half=half, **card_fields)
    folder = root / card.id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS_FILE).write_bytes(data)
    (folder / CARD_FILE).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return card


def pack_weights(
    network: nn.Module, *, half: bool = False, **card_fields: object
) -> tuple[ModelCard, bytes]:
    """Return a network's card and its weights as safetensors (float16 with ``half``)."""
    state = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in network.state_dict().items()
    }
    data = save(state)
    digest = hashlib.sha256(data).hexdigest()
    card = ModelCard.model_validate({"sha256": digest, "size": len(data), **card_fields})
    return card, data
