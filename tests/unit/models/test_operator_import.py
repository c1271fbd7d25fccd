"""``bauta models import``: the operator's way in for files of weights."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from services.worker.models.architectures import build
from services.worker.models.operator_import import ModelRejectedError, import_file
from services.worker.models.registry import find_models, load_model

CARD: dict[str, Any] = {
    "id": "mine",
    "task": "mask",
    "architecture": "cnn",
    "classes": ("a", "b"),
    "input_size": (32, 32),
    "crop_margin": 0.1,
    "license": "mine",
    "training_data": {},
    "training": {},
    "default": False,
}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(build("cnn", classes=("a", "b"), input_size=32).state_dict())


@pytest.mark.parametrize("form", ["plain", "nested", "safetensors"])
def test_a_file_of_tensors_becomes_a_model(
    tmp_path: Path, weights: dict[str, torch.Tensor], form: str
) -> None:
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    if form == "safetensors":
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    else:
        torch.save({"state_dict": weights} if form == "nested" else weights, path)

    card = import_file(path, tmp_path / "models", sha256=digest(path), **CARD)

    found, folder = find_models(tmp_path / "models")["mine"]
    assert found == card
    loaded = load_model(found, folder).classifier.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())
    with pytest.raises(ModelRejectedError, match="already"):
        import_file(path, tmp_path / "models", sha256=digest(path), **CARD)


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("pwned"),)


def test_nothing_else_is_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: dict[str, torch.Tensor]
) -> None:
    monkeypatch.chdir(tmp_path)
    raw, zipped = tmp_path / "raw.pt", tmp_path / "zipped.pt"
    raw.write_bytes(pickle.dumps(Evil()))
    torch.save({**weights, "extra": Evil()}, zipped)
    for path in (raw, zipped):
        with pytest.raises(ModelRejectedError, match="holds more than tensors"):
            import_file(path, tmp_path / "models", sha256=digest(path), **CARD)
    assert not (tmp_path / "pwned").exists()
    assert not (tmp_path / "models").exists()


def test_another_file_is_not_even_read(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "w.pt"
    torch.save(weights, path)
    with pytest.raises(ModelRejectedError, match="has SHA-256"):
        import_file(path, tmp_path / "models", sha256="0" * 64, **CARD)
    fields = {**CARD, "classes": ("a", "b", "c")}
    with pytest.raises(ModelRejectedError, match="has shape"):
        import_file(path, tmp_path / "models", sha256=digest(path), **fields)
    torch.save([1, 2], path)
    with pytest.raises(ModelRejectedError, match="not a mapping"):
        import_file(path, tmp_path / "models", sha256=digest(path), **CARD)


def test_what_was_hashed_is_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "w.pt"
    torch.save(weights, path)
    read_bytes = Path.read_bytes

    def swapped_after(file: Path) -> bytes:
        data = read_bytes(file)
        torch.save({name: tensor + 1 for name, tensor in weights.items()}, file)
        return data

    wanted = digest(path)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", swapped_after)
        import_file(path, tmp_path / "models", sha256=wanted, **CARD)

    card, folder = find_models(tmp_path / "models")["mine"]
    loaded = load_model(card, folder).classifier.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())
