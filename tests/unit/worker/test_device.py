"""Where a worker computes."""

from collections.abc import Iterator

import pytest
import torch

from services.worker.runtime.device import choose_device


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("gpus", "chosen"), [(0, "cpu"), (2, "cuda")])
def test_a_gpu_is_taken_when_there_is_one(
    monkeypatch: pytest.MonkeyPatch, gpus: int, chosen: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert choose_device("auto") == torch.device(chosen)
    assert choose_device("cpu", threads=1) == torch.device("cpu")
    assert torch.get_num_threads() == 1


def test_the_operator_chooses_among_the_gpus_that_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match="BAUTA_DEVICE=cuda:2, but 2 GPUs are here"):
        choose_device("cuda:2")
