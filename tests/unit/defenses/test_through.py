"""Attacks go through a defense: forward, backward and on average."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from services.worker.defenses.base import Chain
from services.worker.defenses.carving import SeamCarving
from services.worker.defenses.filters import BitDepth, MedianFilter
from services.worker.defenses.noise import Noise
from services.worker.defenses.through import DefendedClassifier
from services.worker.models.base import Classifier

Maker = Callable[..., Tensor]
Builder = Callable[[int], Classifier]


def test_answers_for_the_defended_picture(pictures: Maker, linear: Builder) -> None:
    images, classifier, defense = pictures(), linear(24), MedianFilter()
    defended = DefendedClassifier(classifier, defense)
    assert torch.equal(defended(images), classifier(defense.apply(images)))
    assert defended.classes == classifier.classes
    assert defended.input_size == (24, 24)


def test_bpda_takes_the_gradient_at_the_defended_picture(pictures: Maker, linear: Builder) -> None:
    """Of a linear classifier, with the identity as surrogate: its weights over the deviation."""
    images, classifier = pictures(), linear(24)
    images.requires_grad_()
    logits = DefendedClassifier(classifier, BitDepth(bits=2))(images)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), images)
    weight = classifier.get_parameter("network.weight")[0].view(3, 24, 24) / classifier.std[0]
    torch.testing.assert_close(gradient, weight.expand_as(gradient))


def test_the_gradient_through_carving_reaches_the_pixels_that_stayed(
    pictures: Maker, linear: Builder
) -> None:
    images, classifier = pictures(2, 24), linear(16)
    defense = SeamCarving(height=16, width=16)
    defended = DefendedClassifier(classifier, defense, input_size=(24, 24))
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(defended(images)[:, 0].sum(), images)
    carved = defense.carve(images)
    stayed = torch.zeros(2, 24 * 24, dtype=torch.bool)
    stayed.scatter_(1, torch.from_numpy(carved.sources).flatten(1).long(), True)
    assert torch.equal(gradient.abs().sum(1).flatten(1) > 0, stayed)
    # It is the true one: a level more in a kept pixel, seams unchanged, moves the logit by it.
    row, column = divmod(int(carved.sources[0, 8, 8]), 24)
    nudged = images.detach().clone()
    nudged[0, 2, row, column] += 1 / 255
    assert (defense.carve(nudged).sources == carved.sources).all()
    change = defended(nudged)[0, 0] - defended(images.detach())[0, 0]
    torch.testing.assert_close(change * 255, gradient[0, 2, row, column], rtol=1e-2, atol=1e-3)


def test_gradients_pass_a_chain(pictures: Maker, linear: Builder) -> None:
    chain = Chain([MedianFilter(), SeamCarving(height=16, width=16), BitDepth(bits=4)])
    images = pictures().requires_grad_()
    defended = DefendedClassifier(linear(16), chain, input_size=(24, 24))
    (gradient,) = torch.autograd.grad(defended(images)[:, 0].sum(), images)
    assert ((gradient != 0).any(1).sum((1, 2)) == 16 * 16).all()


def test_draws_are_averaged_and_repeat_by_the_seed(pictures: Maker, linear: Builder) -> None:
    images, classifier = pictures(), linear(24)
    many = DefendedClassifier(classifier, Noise(sigma=0.3), draws=400)
    first = many(images)
    assert not torch.equal(many(images), first)
    again = DefendedClassifier(classifier, Noise(sigma=0.3), draws=400)
    assert torch.equal(again(images), first)
    source = torch.Generator().manual_seed(9)
    noisy = images + 0.3 * torch.randn(4000, *images.shape, generator=source)
    expected = classifier(noisy.flatten(0, 1)).softmax(1).unflatten(0, (4000, 3)).mean(0)
    torch.testing.assert_close(first.softmax(1), expected, atol=0.05, rtol=0)


def test_a_random_defense_draws_anew_at_every_query(pictures: Maker, linear: Builder) -> None:
    defended = DefendedClassifier(linear(24), Noise(sigma=0.3))
    images = pictures()
    assert not torch.equal(defended(images), defended(images))


def test_a_defense_that_misses_the_size_is_refused(pictures: Maker, linear: Builder) -> None:
    defended = DefendedClassifier(linear(24), SeamCarving(height=16, width=16))
    with pytest.raises(ValueError, match="leads to 16x16, but the classifier takes 24x24"):
        defended(pictures())
    with pytest.raises(ValueError, match="at least one draw"):
        DefendedClassifier(linear(24), MedianFilter(), draws=0)
