"""The loop learns, follows its seed, resumes without a seam, stops early and stops when told."""

import itertools
from typing import Any

import pytest
import torch

from services.worker.datasets.labeled import LabeledImages
from services.worker.models.architectures import build
from services.worker.models.base import Classifier
from services.worker.stopping import Stopped
from services.worker.training.augment import Augmentation
from services.worker.training.balance import class_weights
from services.worker.training.checkpoint import pack, unpack
from services.worker.training.history import LiveEpoch
from services.worker.training.loop import (
    TrainConfig,
    Trained,
    predict,
    train,
)
from services.worker.training.optimize import one_cycle

CLASSES = ("dark", "light")


def shades(count: int, *, seed: int) -> LabeledImages:
    """Noise whose mean tells the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    noise = torch.rand(count, 3, 16, 16, generator=generator) * 100
    images = (noise + 100 * labels.view(-1, 1, 1, 1)).byte()
    return LabeledImages(images, labels, CLASSES, tuple(str(i) for i in range(count)))


def model() -> Classifier:
    torch.manual_seed(0)
    return build("cnn", classes=CLASSES, input_size=16)


def settings(**changes: Any) -> TrainConfig:
    return TrainConfig(**{"epochs": 4, "batch_size": 16, "max_lr": 2e-3, "seed": 3, **changes})


def run(config: TrainConfig, **more: Any) -> Trained:
    return train(model(), shades(64, seed=1), shades(32, seed=2), config, **more)


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return trained.classifier.state_dict()


def test_learns_what_there_is_to_learn() -> None:
    trained = run(settings(epochs=6))
    assert trained.best.val_accuracy == 1
    assert trained.history[-1].train_loss < trained.history[0].train_loss
    assert not trained.stopped
    assert not trained.classifier.training


def test_a_step_is_no_longer_than_the_clipped_gradient_allows() -> None:
    """With one step of SGD, Nesterov's 1.9 times the rate times the gradient's bound."""
    config = settings(
        epochs=1, batch_size=64, optimizer="sgd", weight_decay=0.0, max_lr=1.0, clip_norm=0.01
    )
    before = {name: value.detach() for name, value in model().named_parameters()}
    trained = run(config)
    moved = [
        (value.detach() - before[name]).flatten()
        for name, value in trained.classifier.named_parameters()
    ]
    longest = 1.9 * one_cycle(0.0, 1.0) * 0.01
    assert float(torch.cat(moved).norm()) == pytest.approx(longest, rel=1e-3)


def test_bfloat16_learns_the_same_with_other_roundings() -> None:
    exact, mixed = run(settings(epochs=6)), run(settings(epochs=6, bf16=True))
    assert mixed.best.val_accuracy == 1
    assert all(value.dtype != torch.bfloat16 for value in weights(mixed).values())
    assert any(not torch.equal(value, weights(exact)[k]) for k, value in weights(mixed).items())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_resuming_gives_the_weights_of_an_unbroken_run(optimizer: str) -> None:
    config = settings(optimizer=optimizer, balanced=True)
    whole = run(config)
    states: list[dict[str, Any]] = []
    run(config, save=states.append)
    assert [state["epoch"] for state in states] == [1, 2, 3, 4]
    resumed = run(config, resume=states[1])
    assert resumed.history == whole.history
    assert resumed.best == whole.best
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(resumed)[name], tensor)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("stop", [1, 6, 8])  # within the first epoch, the second, and between two
def test_a_run_killed_at_any_step_goes_on_to_the_same_model(optimizer: str, stop: int) -> None:
    config = settings(optimizer=optimizer, epochs=3, frozen_epochs=1, backbone_rate=0.3)
    whole = run(config)
    kept: list[tuple[bytes, str]] = []

    class Killed(BaseException):
        pass

    calls = itertools.count(1)

    def kill() -> None:
        # Four steps and a look at the validation images an epoch.
        if next(calls) > stop + stop // 4:
            raise Killed

    def keep(state: dict[str, Any]) -> None:
        kept.append(pack(state))

    with pytest.raises(Killed):
        run(config, save=keep, save_every_s=0, check_cancel=kill)
    state = unpack(*kept[-1])
    assert (state["epoch"], state["step"]) == divmod(stop, 4)
    torch.manual_seed(1234)  # another process
    resumed = run(config, resume=state)
    assert resumed.history == whole.history
    assert resumed.best == whole.best
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(resumed)[name], tensor)


def test_a_frozen_backbone_keeps_its_weights_and_statistics() -> None:
    classifier = model()
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    data, held = shades(64, seed=1), shades(32, seed=2)
    trained = train(classifier, data, held, settings(epochs=2, frozen_epochs=2))
    after = weights(trained)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        "network.head.5.weight",
        "network.head.5.bias",
    }
    assert all(p.requires_grad for p in classifier.parameters())
    thawed = train(model(), data, held, settings(epochs=3, frozen_epochs=1, patience=0))
    assert not torch.equal(
        weights(thawed)["network.features.0.weight"], before["network.features.0.weight"]
    )


def test_class_weights_make_up_for_a_rare_class() -> None:
    labels = torch.tensor([0] * 9 + [1] * 3)
    found = class_weights(labels, 3)
    assert found.tolist() == pytest.approx([12 / (2 * 9), 12 / (2 * 3), 0])
    assert float(found[labels].mean()) == pytest.approx(1)
    # Noise that tells nothing: the weighted loss is least where both classes are equally likely.
    data = shades(96, seed=1)
    blind = LabeledImages(
        data.images * 0 + 90, (torch.arange(96) % 8 == 0).long(), CLASSES, data.groups
    )
    plain = Augmentation(flip=0, rotation=0, zoom=0, shift=0, color=0, erase=0, blur=0)
    shares = []
    for weighted in (False, True):
        config = settings(epochs=12, class_weights=weighted, augmentation=plain, max_lr=1e-2)
        trained = train(model(), blind, blind, config)
        shares.append(float(predict(trained.classifier, blind.images).softmax(1)[0, 1]))
    assert shares[0] < 0.25
    assert 0.35 < shares[1] < 0.65


def test_reports_live_figures() -> None:
    seen: list[LiveEpoch] = []
    trained = run(settings(epochs=2), watch=seen.append)
    assert [(live.epoch, live.step) for live in seen] == [
        (e, s) for e in (0, 1) for s in (1, 2, 3, 4)
    ]
    assert seen[-1].accuracy == trained.history[-1].train_accuracy
    assert seen[-1].loss == pytest.approx(trained.history[-1].train_loss)
    assert 0 < trained.data_seconds < trained.seconds


def test_a_state_is_not_changed_by_the_epochs_after_it() -> None:
    states: list[dict[str, Any]] = []
    config = settings()
    run(config, save=states.append)
    first = {name: tensor.clone() for name, tensor in states[0]["model"].items()}
    run(config, resume=states[0])
    assert all(torch.equal(states[0]["model"][name], tensor) for name, tensor in first.items())


def test_follows_its_seed_and_leaves_the_global_one_alone() -> None:
    torch.manual_seed(99)
    before = torch.get_rng_state()
    data, held = shades(64, seed=1), shades(32, seed=2)
    classifiers = [model() for _ in range(3)]
    torch.set_rng_state(before)
    first, again, other = (
        train(classifier, data, held, settings(seed=seed))
        for classifier, seed in zip(classifiers, (5, 5, 6), strict=True)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert first.history == again.history != other.history


def test_cancel_keeps_the_best_model_so_far() -> None:
    calls = itertools.count()

    def cancel_in_the_third_epoch() -> None:
        if next(calls) == 12:
            raise Stopped

    trained = run(settings(epochs=50), check_cancel=cancel_in_the_third_epoch)
    assert trained.stopped
    assert len(trained.history) == 2
    logits = predict(trained.classifier, shades(32, seed=2).images)
    accuracy = float((logits.argmax(1) == shades(32, seed=2).labels).float().mean())
    assert accuracy == trained.best.val_accuracy


def test_a_cancel_met_while_saving_keeps_the_best_model_too() -> None:
    def save(state: dict[str, Any]) -> None:
        if state["epoch"] == 2:
            raise Stopped

    trained = run(settings(), save=save)
    assert trained.stopped
    assert len(trained.history) == 2


def test_cancel_before_any_epoch_has_nothing_to_keep() -> None:
    def cancel() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        run(settings(), check_cancel=cancel)


def test_stops_early_when_the_validation_no_longer_improves() -> None:
    data = shades(64, seed=1)
    contrary = LabeledImages(data.images, 1 - data.labels, CLASSES, data.groups)
    trained = train(model(), data, contrary, settings(epochs=40, patience=2))
    assert len(trained.history) < 40
    assert len(trained.history) == trained.best.number + 1 + 2


def test_reports_progress_to_the_last_step() -> None:
    seen: list[tuple[int, int, str]] = []
    run(settings(), progress=lambda *args: seen.append(args))
    assert [done for done, _, _ in seen] == list(range(1, 17))
    assert {total for _, total, _ in seen} == {16}
    assert all("loss" in message for _, _, message in seen)


def test_balanced_sampling_helps_a_rare_class() -> None:
    # Nine dark pictures for each light one.
    data = shades(200, seed=1)
    kept = [i for i in range(200) if data.labels[i] == 0 or i % 18 == 1]
    drawn: list[int] = []
    classifier = model()
    logits = classifier.all_logits

    def counted(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        drawn.extend((images.mean((1, 2, 3)) > 0.4).tolist())
        return logits(images)

    classifier.all_logits = counted  # type: ignore[method-assign]
    plain = Augmentation(color=0, erase=0, blur=0)
    config = settings(epochs=5, balanced=True, augmentation=plain)
    train(classifier, data.select(kept), shades(32, seed=2), config)
    assert 0.4 < sum(drawn) / len(drawn) < 0.6


@pytest.mark.parametrize("empty", ["data", "validation"])
def test_refuses_empty_sets_and_other_classes(empty: str) -> None:
    full, nothing = shades(8, seed=0), shades(8, seed=0).select([])
    pair = (nothing, full) if empty == "data" else (full, nothing)
    with pytest.raises(ValueError, match="at least one image"):
        train(model(), *pair, settings())
    other = LabeledImages(full.images, full.labels, ("a", "b"), full.groups)
    with pytest.raises(ValueError, match="same classes"):
        train(model(), other, full, settings())


def test_the_schedule_rises_to_its_peak_and_falls_to_nearly_nothing() -> None:
    rates = [one_cycle(i / 1000, 0.1) for i in range(1001)]
    assert rates[0] == pytest.approx(0.1 / 25)
    assert max(rates) == pytest.approx(0.1)
    assert rates.index(max(rates)) == 300
    assert rates[-1] == pytest.approx(1e-5)
    assert rates[:301] == sorted(rates[:301])
    assert rates[300:] == sorted(rates[300:], reverse=True)


def test_predictions_do_not_depend_on_the_batch() -> None:
    classifier, data = model(), shades(33, seed=4)
    all_at_once = predict(classifier, data.images, batch_size=64)
    one_by_one = predict(classifier, data.images, batch_size=1)
    torch.testing.assert_close(all_at_once.softmax(1), one_by_one.softmax(1), atol=1e-4, rtol=0)
    assert predict(classifier, data.images[:0]).shape == (0, 2)
