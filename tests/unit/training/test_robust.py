"""Perturbations stay within their bounds, are those of the attacks, and harden what learns them."""

from typing import Any

import pytest
import torch

from services.worker.attacks.criteria import Untargeted
from services.worker.attacks.fgsm import FGSM
from services.worker.attacks.pgd import PGD
from services.worker.attacks.runner import run as attack
from services.worker.datasets.labeled import LabeledImages
from services.worker.models.base import Classifier
from services.worker.training.augment import Augmentation
from services.worker.training.distill import Teacher
from services.worker.training.loop import TrainConfig, predict, train
from services.worker.training.robust import Adversarial, FewPixels, Perturb
from tests.unit.training.test_loop import CLASSES, model, run, settings, shades

PLAIN = Augmentation(flip=0, rotation=0, zoom=0, shift=0, color=0, erase=0, blur=0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def trained() -> Classifier:
    return run(settings(epochs=3)).classifier


@pytest.fixture
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    data = shades(16, seed=5)
    return data.images.float() / 255, data.labels


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("single", [True, False])
def test_attacked_pictures_stay_within_the_bound_and_lose_margin(
    trained: Classifier, pictures: Any, norm: Any, single: bool
) -> None:
    images, labels = pictures
    eps = 8.0 if norm == "linf" else 300.0
    perturb = Adversarial(attack=FGSM(eps=eps, norm=norm) if single else PGD(eps=eps, norm=norm))
    moved = perturb(trained, images, labels, generator())
    change = (moved - images) * 255
    size = change.abs().amax((1, 2, 3)) if norm == "linf" else change.flatten(1).norm(dim=1)
    assert float(size.max()) <= eps + 1e-3
    assert float(size.min()) > 0
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
    criterion = Untargeted(labels)
    with torch.no_grad():
        fall = criterion.margin(trained(images)) - criterion.margin(trained(moved))
    assert float(fall.min()) > 0


def test_pgd_is_as_strong_as_the_library_s(trained: Classifier, pictures: Any) -> None:
    images, labels = pictures
    pgd = PGD(eps=6, steps=10, step_size=1.0, random_start=False, early_stop=False)
    moved = Adversarial(attack=pgd, random_start=False)(trained, images, labels, generator())
    levels = (images * 255).round().to(torch.uint8)
    found = attack(pgd, trained, levels, Untargeted(labels)).results
    delivered = torch.stack([torch.from_numpy(r.adversarial).permute(2, 0, 1) for r in found])
    criterion = Untargeted(labels)
    with torch.no_grad():
        ours = criterion.margin(trained(moved))
        theirs = criterion.margin(trained(delivered.float() / 255))
    counted = [not r.met_before for r in found]
    assert sum(counted) > 8
    torch.testing.assert_close(ours[counted], theirs[counted], rtol=0.05, atol=0.05)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_the_batch_is_perturbed(
    trained: Classifier, pictures: Any, share: float
) -> None:
    images, labels = pictures
    perturbs: list[Perturb] = [
        Adversarial(attack=FGSM(eps=4), share=share),
        FewPixels(pixels=3, tries=3, share=share),
    ]
    for perturb in perturbs:
        moved = perturb(trained, images, labels, generator())
        changed = (moved != images).flatten(1).any(1)
        assert changed.tolist() == [True] * round(16 * share) + [False] * (16 - round(16 * share))


def test_leaves_the_model_as_it_was(trained: Classifier, pictures: Any) -> None:
    images, labels = pictures
    trained.train()
    trained.network.features.eval()
    trained.network.features.requires_grad_(False)
    modes = [module.training for module in trained.modules()]
    Adversarial(attack=PGD(steps=2))(trained, images, labels, generator())
    FewPixels(pixels=1, tries=2)(trained, images, labels, generator())
    assert [module.training for module in trained.modules()] == modes
    assert not trained.network.features[0].weight.requires_grad
    assert trained.network.head[5].weight.requires_grad
    trained.eval().requires_grad_(True)


def test_few_pixels_are_few_and_the_worst_of_several(trained: Classifier, pictures: Any) -> None:
    images, labels = pictures
    losses = []
    for tries in (1, 30):
        moved = FewPixels(pixels=5, tries=tries, share=1.0)(trained, images, labels, generator())
        assert 1 <= int((moved != images).any(1).sum((1, 2)).max()) <= 5
        with torch.no_grad():
            loss = torch.nn.functional.cross_entropy(trained(moved), labels, reduction="none")
        losses.append(loss)
    assert bool((losses[1] >= losses[0] - 1e-5).all())
    assert bool((losses[1] > losses[0]).any())


def dots(count: int, *, seed: int) -> LabeledImages:
    """A strong but fragile cue and a weak but sturdy one: brightness by 4 levels, and a square."""
    source = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randint(110, 130, (count, 3, 16, 16), generator=source)
    images += (8 * labels - 4).view(-1, 1, 1, 1)
    images[labels == 1, :, 4:8, 4:8] += 60
    return LabeledImages(images.byte(), labels, CLASSES, tuple(str(i) for i in range(count)))


def accuracy_under_attack(classifier: Classifier, data: LabeledImages) -> float:
    levels = attack(PGD(eps=12, steps=10), classifier, data.images, Untargeted(data.labels)).results
    return sum(r.label_after == r.label for r in levels) / len(levels)


def test_adversarial_training_withstands_what_plain_training_does_not() -> None:
    config = TrainConfig(
        epochs=10, batch_size=16, max_lr=3e-3, augmentation=PLAIN, label_smoothing=0.0, seed=1
    )
    data, held, test = dots(128, seed=1), dots(32, seed=2), dots(32, seed=3)
    plain = train(model(), data, held, config)
    perturb = Adversarial(attack=PGD(eps=12, steps=4))
    hardened = train(model(), data, held, config, perturb=perturb)
    assert plain.best.robust_accuracy is None
    assert hardened.best.robust_accuracy is not None
    assert accuracy_under_attack(plain.classifier, test) <= 0.6
    assert accuracy_under_attack(hardened.classifier, test) > 0.9
    assert hardened.best.robust_accuracy > 0.9


def test_robust_accuracy_is_that_of_perturbed_validation_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.worker.training.loop.ROBUST_VALIDATION", 24)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def untouched(
        classifier: Classifier, images: torch.Tensor, labels: torch.Tensor, _: torch.Generator
    ) -> torch.Tensor:
        if not classifier.training:
            seen.append((images, labels))
        return images

    held = shades(96, seed=2)
    # In another order than that of their labels, and more than are perturbed.
    data = held.select(held.labels.argsort().tolist())
    trained = train(model(), shades(64, seed=1), data, settings(epochs=2), perturb=untouched)
    assert all(epoch.robust_accuracy is not None for epoch in trained.history)
    best = trained.best
    images = torch.cat([part for part, _ in seen[-2:]])
    labels = torch.cat([part for _, part in seen[-2:]])
    assert len(labels) == 24
    assert best is trained.history[-1]
    with torch.no_grad():
        logits = trained.classifier(images)
    assert best.robust_accuracy == float((logits.argmax(1) == labels).double().mean())
    loss = float(torch.nn.functional.cross_entropy(logits, labels))
    assert best.selection_loss == pytest.approx(loss, abs=1e-5)
    assert best.selection_loss != pytest.approx(best.val_loss, abs=1e-5)


def test_a_distilled_model_knows_as_much_and_is_surer(trained: Classifier) -> None:
    heat = 20.0
    teacher = Teacher(run(settings(epochs=6, temperature=heat)).classifier, heat)
    student = run(settings(epochs=10, temperature=heat), teacher=teacher).classifier
    test = shades(64, seed=9)
    plain, distilled = predict(trained, test.images), predict(student, test.images)
    assert float((distilled.argmax(1) == test.labels).double().mean()) >= 0.95
    assert float(distilled.abs().mean()) > 3 * float(plain.abs().mean())


def test_soft_labels_are_the_teacher_s_at_its_temperature(trained: Classifier) -> None:
    images = torch.rand(4, 3, 16, 16, generator=generator())
    soft = Teacher(trained, 5.0).soft_labels(images)
    logits = trained(images)
    torch.testing.assert_close(
        soft, torch.exp(logits / 5) / torch.exp(logits / 5).sum(1, keepdim=True)
    )


def test_refuses_a_teacher_of_other_classes(trained: Classifier) -> None:
    other = model()
    other.classes = ("a", "b")
    with pytest.raises(ValueError, match="student's classes"):
        run(settings(), teacher=Teacher(other, 2.0))
