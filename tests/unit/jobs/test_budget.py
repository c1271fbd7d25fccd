"""What jobs would need of memory is told before it is taken."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from services.worker.jobs.kit.budget import kept_floats, require_batch, require_pictures
from services.worker.models.recognizers import recognizer_of
from services.worker.models.registry import find_models
from services.worker.runtime import memory
from shared.problems import Problem


@pytest.fixture
def little() -> Iterator[None]:
    """A service that gives a job 64 MiB."""
    before = memory._job_bytes
    memory.set_job_budget(64 * 2**20)
    yield
    memory.set_job_budget(before)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)
    )


def test_what_the_layers_return_is_counted(network: nn.Module) -> None:
    network(torch.zeros(2, 3, 16, 16))  # builds the lazy layer
    network.train()

    assert kept_floats(network, (16, 16)) == 4 * 8 * 16 * 16 + 2
    assert network.training, "left as it was"
    assert all(not module._forward_hooks for module in network.modules())


def test_the_count_is_near_what_a_batch_keeps_for_its_gradient() -> None:
    """Of the recognizer that ships, against what autograd itself stores."""
    network = recognizer_of(*find_models()["face-residual-112"]).network
    stored: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        stored[storage.data_ptr()] = storage.nbytes()
        return tensor

    own = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    faces = torch.rand(4, 3, 112, 112, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(faces)
    kept = sum(size for place, size in stored.items() if place not in own)

    told = 4 * 4 * kept_floats(network, (112, 112))
    assert kept / 2 < told < 4 * kept


@pytest.mark.usefixtures("little")
def test_more_than_the_budget_is_refused_with_the_figure(network: nn.Module) -> None:
    network(torch.zeros(2, 3, 16, 16))
    require_batch(network, (16, 16), 64, "images")
    require_pictures(100, 112)

    with pytest.raises(Problem, match=r"a batch of 4,096 images of 16 x 16 .* 64 MiB") as batch:
        require_batch(network, (16, 16), 4096, "images")
    with pytest.raises(Problem, match=r"10,000 pictures of 512 x 512 .* 64 MiB") as pictures:
        require_pictures(10_000, 512)

    for caught in (batch, pictures):
        assert caught.value.slug == "too-much-memory"
        assert caught.value.extensions["needed_bytes"] > 64 * 2**20
