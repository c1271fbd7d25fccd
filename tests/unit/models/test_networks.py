"""The capsule network against a slow replay of the paper's procedure."""

import numpy as np
import torch

from services.worker.models.networks import CapsNet, route, squash


def test_squash_keeps_directions_and_bounds_lengths() -> None:
    vectors = torch.randn(50, 16, generator=torch.Generator().manual_seed(0)) * 3
    squashed = squash(vectors)
    lengths = vectors.norm(dim=-1)
    torch.testing.assert_close(squashed.norm(dim=-1), lengths**2 / (1 + lengths**2))
    torch.testing.assert_close(
        torch.nn.functional.cosine_similarity(squashed, vectors), torch.ones(50)
    )


def test_squash_of_nothing_is_nothing_with_a_finite_gradient() -> None:
    vectors = torch.zeros(2, 4, requires_grad=True)
    squash(vectors).sum().backward()
    assert vectors.grad is not None
    assert torch.isfinite(vectors.grad).all()


def test_routing_is_the_procedure_of_the_paper() -> None:
    votes = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    for n in range(2):
        u = votes[n].numpy()
        b = np.zeros((5, 3))
        for _ in range(3):
            c = np.exp(b) / np.exp(b).sum(1, keepdims=True)
            s = np.stack([sum(c[i, j] * u[i, j] for i in range(5)) for j in range(3)])
            length = np.linalg.norm(s, axis=1, keepdims=True)
            v = length**2 / (1 + length**2) * s / length
            b = b + np.array([[u[i, j] @ v[j] for j in range(3)] for i in range(5)])
        np.testing.assert_allclose(route(votes[n : n + 1], 3)[0].numpy(), s, rtol=1e-6)


def test_the_logit_is_that_of_the_length_of_the_class_capsule() -> None:
    torch.manual_seed(0)
    network = CapsNet(3, size=20, width=16).eval()
    images = torch.randn(4, 3, 20, 20)
    lengths = squash(network.head.totals(network.primary_capsules(images))).norm(dim=-1)
    torch.testing.assert_close(network(images).sigmoid(), lengths, rtol=1e-3, atol=1e-6)
