"""Every architecture maps [0, 1] pictures to logits and passes gradients back to the pictures."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from services.worker.models.architectures import ARCHITECTURES, _find, build
from services.worker.models.base import Classifier
from services.worker.models.heads import Head, headless
from services.worker.models.registry import load_model, save_model

TWO = ("with_mask", "without_mask")
THREE = (*TWO, "mask_weared_incorrect")


def pictures(count: int, side: int) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("classes", [TWO, THREE])
def test_maps_the_smallest_pictures_to_logits_with_gradients(
    architecture: str, classes: tuple[str, ...]
) -> None:
    torch.manual_seed(0)
    side = _find(architecture).smallest
    classifier = build(architecture, classes=classes, input_size=side).eval()
    images = pictures(2, side).requires_grad_()
    logits = classifier(images)
    assert logits.shape == (2, len(classes))
    assert classifier.input_size == (side, side)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), images)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().amax(dim=(1, 2, 3)).min() > 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_refuses_pictures_that_are_too_small(architecture: str) -> None:
    with pytest.raises(ValueError, match="px, not"):
        build(architecture, classes=TWO, input_size=_find(architecture).smallest - 1)


def test_the_face_network_takes_one_size_only() -> None:
    with pytest.raises(ValueError, match="112 px, not 160 px"):
        build("face_resnet", classes=TWO, input_size=160)


def test_refuses_an_unknown_architecture_and_too_few_classes() -> None:
    with pytest.raises(ValueError, match="unknown architecture"):
        build("alexnet", classes=TWO)
    with pytest.raises(ValueError, match="two distinct"):
        build("cnn", classes=("with_mask", "with_mask"))


@pytest.mark.parametrize(
    ("architecture", "million"),
    # https://pytorch.org/vision/stable/models.html, less the 998 classes that are not there.
    [
        ("resnet18", 11.69 - 0.51),
        ("resnet34", 21.80 - 0.51),
        ("resnet34_7x7", 21.80 - 0.51),
        ("mobilenet_v3_small", 2.54 - 1.02),
        ("densenet121", 7.98 - 1.02),
    ],
)
def test_is_the_published_network_at_its_own_size(architecture: str, million: float) -> None:
    classifier = build(architecture, classes=TWO)
    assert sum(p.numel() for p in classifier.parameters()) / 1e6 == pytest.approx(million, abs=0.02)


@pytest.mark.parametrize("architecture", ["resnet18", "resnet34"])
def test_residual_networks_keep_the_resolution_of_small_pictures(architecture: str) -> None:
    classifier = build(architecture, classes=TWO, input_size=32).eval()
    seen: list[torch.Size] = []
    classifier.network.layer1.register_forward_hook(lambda _m, i, _o: seen.append(i[0].shape))
    classifier(pictures(1, 32))
    assert seen == [torch.Size((1, 64, 32, 32))]


def test_the_published_stem_shrinks_small_pictures_at_once() -> None:
    classifier = build("resnet34_7x7", classes=TWO).eval()
    seen: list[torch.Size] = []
    classifier.network.layer1.register_forward_hook(lambda _m, i, _o: seen.append(i[0].shape))
    classifier(pictures(1, 32))
    assert seen == [torch.Size((1, 64, 8, 8))]


@pytest.mark.parametrize(("architecture", "side", "heads"), [("googlenet", 64, 2)])
def test_auxiliary_heads_speak_in_training_only(architecture: str, side: int, heads: int) -> None:
    classifier = build(architecture, classes=TWO, input_size=side)
    every = classifier.train().all_logits(pictures(2, side))
    assert [part.shape for part in every] == [(2, 2)] * (1 + heads)
    assert classifier.train()(pictures(2, side)).shape == (2, 2)
    assert len(classifier.eval().all_logits(pictures(2, side))) == 1


@pytest.mark.slow
def test_inception_has_its_auxiliary_head_at_its_own_size() -> None:
    classifier = build("inception_v3", classes=TWO)
    assert len(classifier.train().all_logits(pictures(2, 299))) == 2
    assert len(classifier.eval().all_logits(pictures(1, 299))) == 1


def overfitted(architecture: str, *, steps: int, rate: float) -> float:
    """Train on 16 pictures of noise with random labels; return the accuracy on them in eval()."""
    torch.manual_seed(0)
    side = _find(architecture).smallest
    classifier: Classifier = build(architecture, classes=TWO, input_size=side)
    images, labels = pictures(16, side), torch.arange(16) % 2
    for module in classifier.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.5  # so that the statistics of eval() keep up in so few steps
    optimizer = torch.optim.Adam(classifier.parameters(), lr=rate)
    for _ in range(steps):
        classifier.train()
        loss = sum(functional.cross_entropy(part, labels) for part in classifier.all_logits(images))
        optimizer.zero_grad()
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            accuracy = float((classifier.eval()(images).argmax(1) == labels).float().mean())
        if accuracy == 1:
            break
    return accuracy


@pytest.mark.parametrize("architecture", ["cnn", "lenet"])
def test_learns_sixteen_pictures_by_heart(architecture: str) -> None:
    assert overfitted(architecture, steps=200, rate=3e-3) == 1


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if a not in ("cnn", "lenet")])
def test_learns_sixteen_pictures_by_heart_too(architecture: str) -> None:
    # Deep networks take small steps only; at larger ones they learn as well, but late.
    rate = {"vgg19": 2e-4, "capsnet": 1e-3}.get(architecture, 3e-4)
    assert overfitted(architecture, steps=200, rate=rate) == 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_its_head_on_its_features_gives_its_logits(architecture: str) -> None:
    torch.manual_seed(0)
    side = _find(architecture).smallest
    classifier = build(architecture, classes=THREE, input_size=side).eval()
    images = pictures(2, side)
    with torch.inference_mode():
        features = headless(classifier)(images)
        logits = Head(classifier).eval()(features)
        torch.testing.assert_close(logits, classifier(images))
    assert features[0].numel() > 3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_survives_saving_and_loading_bit_for_bit(architecture: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    side = _find(architecture).smallest
    classifier = build(architecture, classes=THREE, input_size=side)
    card = save_model(
        classifier,
        tmp_path,
        id="saved",
        task="mask3",
        crop_margin=0.1,
        license="none",
        training_data={},
        training={},
    )
    loaded = load_model(card, tmp_path / "saved").classifier
    saved = classifier.state_dict()
    assert loaded.state_dict().keys() == saved.keys()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in loaded.state_dict().items())
    placed = classifier.eval().to(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert torch.equal(loaded(pictures(1, side)), placed(pictures(1, side)))
