"""What all defenses, found by name, have in common."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from services.worker.defenses.base import Chain
from services.worker.defenses.registry import DEFENSES, build_chain, build_defense
from services.worker.models.base import Classifier

Maker = Callable[..., Tensor]
Builder = Callable[[int], Classifier]
NEEDED: dict[str, dict[str, Any]] = {"seam_carving": {"height": 20, "width": 18}}


@pytest.mark.parametrize("name", DEFENSES)
def test_keeps_range_grid_and_input_and_repeats_itself(
    name: str, pictures: Maker, linear: Builder
) -> None:
    images = pictures()
    before = images.clone()
    defense = build_defense(name, classifier=linear(24), **NEEDED.get(name, {}))
    out = defense.apply(images, seed=3)
    assert torch.equal(images, before)
    assert torch.equal(defense.apply(images, seed=3), out)
    assert out.dtype == images.dtype
    if name in ("noise", "smoothing"):
        assert not torch.equal(defense.apply(images, seed=4), out)
        return
    assert torch.equal(defense.apply(images, seed=4), out)
    torch.testing.assert_close((out * 255).round() / 255, out, atol=1e-6, rtol=0)
    assert out.min() >= 0
    assert out.max() <= 1


@pytest.mark.parametrize("name", DEFENSES)
def test_an_image_is_defended_the_same_alone(name: str, pictures: Maker, linear: Builder) -> None:
    images = pictures()
    defense = build_defense(name, classifier=linear(24), **NEEDED.get(name, {}))
    together = defense.apply(images, seed=3)
    alone = defense.apply(images[2:], seed=3, indices=[2])
    torch.testing.assert_close(alone[0], together[2])


@pytest.mark.parametrize("name", DEFENSES)
def test_the_differentiable_form_has_the_same_value_and_a_gradient(
    name: str, pictures: Maker, linear: Builder
) -> None:
    images = pictures().requires_grad_()
    defense = build_defense(name, classifier=linear(24), **NEEDED.get(name, {}))
    out = defense.differentiable(images, seed=3)
    assert torch.equal(out.detach(), defense.apply(images.detach(), seed=3))
    (gradient,) = torch.autograd.grad(out.sum(), images)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", DEFENSES)
@pytest.mark.parametrize(
    "images", [torch.rand(3, 8, 8), torch.rand(1, 1, 8, 8), torch.rand(0, 3, 8, 8)]
)
def test_what_is_no_batch_of_images_is_refused(name: str, images: Tensor, linear: Builder) -> None:
    defense = build_defense(name, classifier=linear(8), **NEEDED.get(name, {}))
    with pytest.raises(ValueError, match="defen"):
        defense.apply(images)


def test_a_chain_applies_its_defenses_in_order(pictures: Maker) -> None:
    images = pictures()
    steps: list[tuple[str, dict[str, Any]]] = [("bit_depth", {"bits": 2}), ("median", {"size": 5})]
    first, second = (build_defense(name, **parameters) for name, parameters in steps)
    chain = build_chain(steps)
    assert torch.equal(chain.apply(images), second.apply(first.apply(images)))
    assert chain.deterministic
    assert not build_chain([*steps, ("noise", {})]).deterministic


@pytest.mark.parametrize(
    ("name", "parameters", "sentence"),
    [
        ("magic", {}, "unknown defense"),
        ("median", {"radius": 3}, "no parameter radius"),
        ("pixel_repair", {}, "needs a classifier"),
        ("seam_carving", {"height": 4}, "needs width"),
        ("seam_carving", {"height": 4, "width": 0}, "one pixel must stay"),
        ("seam_carving", {"height": 4, "width": 4, "energy": "depth"}, "unknown energy"),
        ("noise", {"sigma": 0}, "sigma"),
        ("smoothing", {"sigma": 0}, "sigma"),
        ("smoothing", {"alpha": 0.5}, "alpha"),
        ("smoothing", {"samples": 0}, "at least one sample"),
        ("patch_denoiser", {"patch": 0}, "patch"),
        ("patch_denoiser", {"threshold": 1.0}, "threshold"),
    ],
)
def test_bad_requests_are_refused(name: str, parameters: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build_defense(name, **parameters)


def test_smoothing_ends_a_chain(linear: Builder) -> None:
    steps: list[tuple[str, dict[str, Any]]] = [("smoothing", {}), ("median", {})]
    with pytest.raises(ValueError, match="smoothing comes last"):
        build_chain(steps, classifier=linear(24))
    chain = build_chain(steps[::-1], classifier=linear(24))
    assert isinstance(chain, Chain)
    assert not chain.deterministic


def test_an_empty_chain_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one defense"):
        Chain([])
