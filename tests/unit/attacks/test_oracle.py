"""What a run asks of the model, and of which copy of it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from services.worker.attacks import oracle as oracles
from services.worker.attacks.bim import BIM
from services.worker.attacks.criteria import Untargeted
from services.worker.attacks.fgsm import FGSM
from services.worker.attacks.oracle import Oracle
from services.worker.attacks.pgd import PGD
from services.worker.attacks.runner import run
from services.worker.models.base import Classifier
from tests.unit.attacks.toys import labels_of, pictures, small_cnn


def count_folds(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    folds: list[nn.Module] = []

    def counted(model: nn.Module, example: Tensor) -> nn.Module:
        folds.append(model)
        return oracles_fold(model, example)

    oracles_fold = oracles.fold_batch_norm
    monkeypatch.setattr(oracles, "fold_batch_norm", counted)
    return folds


def test_a_model_asked_again_is_not_folded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    folds, model, images = count_folds(monkeypatch), small_cnn(), pictures(2)
    first = run(BIM(eps=4, steps=3), model, images, Untargeted(labels_of(model, images)))
    again = run(BIM(eps=4, steps=3), model, images, Untargeted(labels_of(model, images)))
    assert folds == [model]
    for one, other in zip(first.results, again.results, strict=True):
        assert (one.adversarial == other.adversarial).all()


def scale_in_place(model: Classifier) -> None:
    with torch.no_grad():
        next(model.parameters()).mul_(3)


def replace_data(model: Classifier) -> None:
    weight = next(model.parameters())
    weight.data = 3 * weight.data


def replace_parameter(model: Classifier) -> None:
    layer = model.network[0]  # type: ignore[index]
    layer.weight = nn.Parameter(3 * layer.weight.detach())


def step_of_training(model: Classifier) -> None:
    weight = next(model.parameters())
    weight.grad = -2 * weight.detach()
    torch.optim.SGD([weight], lr=1).step()
    weight.grad = None


def shift_statistics(model: Classifier) -> None:
    normalization = model.network[1]  # type: ignore[index]
    normalization.running_mean += 1


@pytest.mark.parametrize(
    "change",
    [scale_in_place, replace_data, replace_parameter, step_of_training, shift_statistics],
)
def test_a_model_that_changed_is_asked_as_it_is(change: Callable[[Classifier], None]) -> None:
    model, shown = small_cnn(), pictures(3).float() / 255
    before = Oracle(model, shown).logits(shown)
    change(model)
    expected = model(shown)
    assert not torch.allclose(before, expected, atol=1e-2)
    assert torch.allclose(Oracle(model, shown).logits(shown), expected, atol=1e-4)


def test_images_of_another_size_are_not_asked_of_a_copy_for_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = small_cnn()
    model.network.insert(5, nn.AdaptiveAvgPool2d(4))  # type: ignore[operator]
    folds = count_folds(monkeypatch)
    model.eval()
    for side in (8, 12):
        shown = torch.rand(2, 3, side, side)
        assert torch.allclose(Oracle(model, shown).logits(shown), model(shown), atol=1e-4)
    assert len(folds) == 2


@pytest.mark.parametrize("attack", [FGSM(eps=6), PGD(eps=4, steps=3)])
def test_the_model_itself_is_asked_once_about_what_it_is_left_with(attack: FGSM | PGD) -> None:
    model, images = small_cnn(), pictures(5)
    labels = labels_of(model, images)
    asked: list[Tensor] = []
    model.register_forward_hook(lambda module, shown, logits: asked.append(shown[0]))
    batch = run(attack, model, images, Untargeted(labels))
    delivered = [torch.from_numpy(r.adversarial).permute(2, 0, 1) / 255 for r in batch.results]
    for result, image in zip(batch.results, delivered, strict=True):
        same = [one for one in torch.cat(asked) if torch.equal(one, image)]
        assert len(same) == 1
        assert result.label_after == int(model(image[None]).argmax())
