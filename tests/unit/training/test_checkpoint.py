"""A run goes on from a checkpoint's bytes as if it had never stopped."""

import json
from typing import Any

import pytest
import torch

from services.worker.training.checkpoint import pack, unpack
from services.worker.training.presets import PRESETS
from tests.unit.training.test_loop import run, settings, weights


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_resuming_from_bytes_gives_the_weights_of_an_unbroken_run(optimizer: str) -> None:
    config = settings(optimizer=optimizer)
    whole = run(config)
    kept: list[tuple[bytes, str]] = []
    run(config, save=lambda state: kept.append(pack(state)))
    resumed = run(config, resume=unpack(*kept[0]))
    assert resumed.history == whole.history
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(resumed)[name], tensor)


def test_keeps_nested_values_and_numbered_keys() -> None:
    state: dict[str, Any] = {
        "epoch": 3,
        "best": None,
        "optimizer": {"state": {0: {"step": torch.tensor(2.0)}, 1: {}}, "groups": [{"lr": 0.1}]},
        "history": [{"loss": 0.25}],
        "empty": {},
    }
    tensors, document = pack(state)
    assert json.loads(document)["epoch"] == 3
    assert unpack(tensors, document) == state


def test_refuses_a_document_of_another_checkpoint() -> None:
    _, document = pack({"a": torch.ones(1)})
    tensors, _ = pack({"b": torch.ones(1)})
    with pytest.raises(ValueError, match="lacks the tensor '/a'"):
        unpack(tensors, document)


def test_presets_have_the_settings_of_their_papers() -> None:
    first, second, third = (PRESETS[f"paper-{n}"] for n in ("000", "001", "003"))
    assert (first.config.batch_size, first.config.epochs, first.config.max_lr) == (256, 40, 0.001)
    assert (second.input_size, second.config.batch_size, second.config.epochs) == (224, 100, 20)
    assert {first.config.optimizer, second.config.optimizer} == {"sgd"}
    assert (third.architecture, third.input_size, third.config.epochs) == ("resnet18", 224, 25)
