"""Terms against hand-made cases; generators give pictures."""

import pytest
import torch

from services.worker.masks.generators import ARCHITECTURES, build_generator, latents
from services.worker.masks.terms import (
    likeness,
    non_printability,
    printable_colors,
    total_variation,
)


def test_variation_counts_the_steps_between_neighbors() -> None:
    flat, stripes, board = torch.zeros(3, 3, 4, 4)
    stripes[:, ::2] = 1
    board[:, ::2, 1::2] = board[:, 1::2, ::2] = 1

    values = total_variation(torch.stack([flat, stripes, board]))

    assert values.tolist() == pytest.approx([0, 1, 2])


def test_printable_colors_cost_nothing_and_neon_does() -> None:
    colors = printable_colors()
    assert colors.shape == (30, 3)
    assert len({tuple(color.tolist()) for color in colors}) == 30
    assert float(colors.min()) > 0.05
    assert float(colors.max()) < 1

    own = colors[4].view(1, 3, 1, 1).expand(1, 3, 5, 5)
    neon = torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 5, 5)
    half = torch.cat([own[..., :2], neon[..., :2]], 3)
    values = [float(non_printability(one)) for one in (own, half, neon)]

    assert values[0] < 2e-4
    expected = min(float((color - neon[0, :, 0, 0]).norm()) for color in colors)
    assert values[2] == pytest.approx(expected, abs=1e-3)
    assert values[1] == pytest.approx(values[2] / 2, abs=1e-3)


def test_the_nearest_color_is_that_of_a_search_through_all() -> None:
    designs = torch.rand(2, 3, 9, 7, requires_grad=True)
    colors = torch.rand(11, 3)

    scores = non_printability(designs, colors)
    scores.sum().backward()

    pixels = designs.detach().flatten(2).transpose(1, 2)
    apart = torch.cdist(pixels, colors)
    assert torch.allclose(scores, apart.amin(2).mean(1), atol=1e-4)
    assert designs.grad is not None
    away = pixels - colors[apart.argmin(2)]
    slope = away / away.norm(dim=2, keepdim=True) / pixels.shape[1]
    assert torch.allclose(designs.grad.flatten(2).transpose(1, 2), slope, atol=1e-4)


def test_likeness_is_one_for_copies_and_minus_one_for_opposites() -> None:
    one = torch.rand(1, 3, 8, 8)

    assert float(likeness(one.repeat(3, 1, 1, 1))) == pytest.approx(1, abs=1e-5)
    assert float(likeness(torch.cat([one, 1 - one]))) == pytest.approx(-1, abs=1e-5)
    assert float(likeness(one)) == 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_generators_draw_pictures_and_learn(architecture: str) -> None:
    generator = build_generator(architecture, seed=3)  # type: ignore[arg-type]
    drawn = latents(5, torch.Generator().manual_seed(0))

    designs = generator(drawn)
    designs.mean().backward()

    assert designs.shape == (5, 3, 128, 128)
    assert float(designs.detach().min()) >= 0
    assert float(designs.detach().max()) <= 1
    assert all(one.grad is not None for one in generator.parameters())
    same = bool(torch.allclose(designs[0], designs[1], atol=1e-4))
    assert same == (architecture == "pixels")


def test_the_dense_one_is_the_papers() -> None:
    shapes = [tuple(p.shape) for p in build_generator("dense", seed=0).parameters() if p.ndim == 2]

    assert shapes == [(32, 100), (32, 32), (32, 32), (3 * 128 * 128, 32)]


def test_conditions_lengthen_the_latent_vector_and_unknown_ones_are_refused() -> None:
    generator = build_generator("convolutional", seed=0, condition=16)
    assert generator(torch.randn(2, 116)).shape == (2, 3, 128, 128)
    with pytest.raises(ValueError, match="wearer"):
        build_generator("pixels", seed=0, condition=16)
    with pytest.raises(ValueError, match="unknown generator"):
        build_generator("diffusion", seed=0)  # type: ignore[arg-type]


def test_same_seed_same_weights() -> None:
    first, again, other = (build_generator("dense", seed=seed) for seed in (1, 1, 2))
    weights = [one.state_dict()["layers.0.weight"] for one in (first, again, other)]

    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
