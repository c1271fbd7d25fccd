"""What a model starts from: chance, ImageNet, or the backbone of another model."""

import hashlib
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor

from services.worker.models.architectures import published_name
from services.worker.models.base import Classifier
from services.worker.models.heads import head_name
from services.worker.models.registry import ModelUnavailableError

# torchvision's files of DenseNet predate the names of its layers.
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")
_HASH = re.compile(r"-([0-9a-f]{8,64})\.pth$")


def adopt(classifier: Classifier, weights: Mapping[str, Tensor], *, keep_head: bool = False) -> int:
    """Take over the weights of another model, of the same names and shapes; returns how many.

    The head stays fresh unless ``keep_head``; so does what another input size or number of classes
    gives another shape. Raises ``ValueError`` when less than half of the backbone would come.
    """
    own = classifier.state_dict()
    head = f"network.{head_name(classifier)}."
    backbone = [name for name in own if not name.startswith(head)]
    wanted = list(own) if keep_head else backbone
    taken = {
        name: weights[name]
        for name in wanted
        if name in weights and weights[name].shape == own[name].shape
    }
    if sum(name in taken for name in backbone) * 2 < len(backbone):
        raise ValueError(f"these weights do not fit a {classifier.architecture} of this input size")
    classifier.load_state_dict({**own, **taken})
    return len(taken)


def imagenet_weights(
    architecture: str, *, folders: Sequence[Path], download_to: Path | None = None
) -> tuple[str, dict[str, Tensor]]:
    """Return the name and the tensors of torchvision's ImageNet weights, named as ours.

    The file is looked for in ``folders``, and fetched into ``download_to`` where that is given.
    Its SHA-256 has to begin as its name says. Raises ``ModelUnavailableError`` when it is not
    there or is another, and ``ValueError`` for an architecture without such weights.
    """
    # Imported here: workers that fetch no weights start without torchvision.
    from torchvision.models import get_model_weights  # noqa: PLC0415

    try:
        weights = get_model_weights(published_name(architecture)).DEFAULT
    except ValueError as error:
        raise ValueError(f"there are no ImageNet weights for {architecture}") from error
    file_name = weights.url.rpartition("/")[2]
    found = _HASH.search(file_name)
    if found is None:
        raise ModelUnavailableError(f"{file_name} does not say its SHA-256")
    prefix = found[1]
    path = next((folder / file_name for folder in folders if (folder / file_name).is_file()), None)
    if path is None and download_to is not None:
        path = _download(weights.url, download_to / file_name, prefix)
    if path is None:
        raise ModelUnavailableError(
            f"the ImageNet weights of {architecture} are not here: put {file_name}, whose SHA-256 "
            f"begins with {prefix}, at {folders[0] / file_name}, or set BAUTA_ALLOW_DOWNLOADS=true"
        )
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(prefix):
        raise ModelUnavailableError(f"the SHA-256 of {path} does not begin with {prefix}")
    return f"torchvision/{weights}", _read(path)


def _download(url: str, path: Path, prefix: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
    except (URLError, OSError, RuntimeError) as error:
        raise ModelUnavailableError(
            f"{path.name} cannot be fetched ({error}): put it, with a SHA-256 that begins with "
            f"{prefix}, at {path}"
        ) from error
    return path


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {"network." + _OLD_DENSENET.sub(r"\1\2", name): state[name] for name in state}
    except (RuntimeError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        raise ModelUnavailableError(f"{path} holds no weights: {error}") from error
