"""Heads on cached features, and what a model starts from."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torchvision import models as zoo

from services.worker.models.architectures import build
from services.worker.models.registry import ModelUnavailableError
from services.worker.training.estimate import estimate_seconds
from services.worker.training.initial import adopt, imagenet_weights
from services.worker.training.loop import predict
from services.worker.training.transfer import train_head
from tests.unit.training.test_loop import CLASSES, model, run, settings, shades


def test_a_head_learns_on_cached_features_and_the_backbone_stays() -> None:
    classifier = model()
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    data, held = shades(64, seed=1), shades(32, seed=2)
    seen: list[tuple[int, int]] = []
    trained = train_head(
        classifier, data, held, settings(epochs=8, max_lr=0.1), seen=lambda *args: seen.append(args)
    )
    assert seen[-1] == (160, 160)  # 64 twice, mirrored too, and 32
    assert trained.classifier is classifier
    after = classifier.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"network.head.5.weight", "network.head.5.bias"}
    # What validation said of the features holds for the pictures.
    logits = predict(classifier, held.images)
    right = (logits.argmax(1) == held.labels).double().mean()
    assert float(right) == trained.best.val_accuracy > 0.9


def test_a_head_resumes_without_a_seam() -> None:
    data, held = shades(64, seed=1), shades(32, seed=2)
    states: list[Any] = []
    first, second = model(), model()
    whole = train_head(first, data, held, settings(), save=states.append, save_every_s=0)
    resumed = train_head(second, data, held, settings(), resume=states[5])
    assert states[5]["step"] == 6
    assert resumed.history == whole.history
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor)


def test_adopts_a_backbone_and_leaves_the_head_fresh() -> None:
    source = run(settings(epochs=1)).classifier.state_dict()
    for keep_head in (False, True):
        other = model()
        fresh = {name: tensor.clone() for name, tensor in other.state_dict().items()}
        adopt(other, source, keep_head=keep_head)
        for name, tensor in other.state_dict().items():
            is_head = name.startswith("network.head.5.")
            assert torch.equal(tensor, fresh[name] if is_head and not keep_head else source[name])


def test_adopts_what_fits_another_input_size_and_refuses_another_network() -> None:
    source = run(settings(epochs=1)).classifier.state_dict()
    larger = build("cnn", classes=("a", "b", "c"), input_size=32)
    adopt(larger, source)
    assert torch.equal(
        larger.state_dict()["network.features.0.weight"], source["network.features.0.weight"]
    )
    with pytest.raises(ValueError, match="do not fit"):
        adopt(build("lenet", classes=CLASSES), source)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Weights as torchvision publishes them: a pickled state dict with its hash in its name."""

    def publish(architecture: str, state: Any, folder: Path = tmp_path) -> Path:
        path = tmp_path / "file"
        torch.save(state, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        folder.mkdir(exist_ok=True)
        named = path.rename(folder / f"{architecture}-{digest[:8]}.pth")
        weights = SimpleNamespace(DEFAULT=SimpleNamespace(url=named.as_uri()))
        monkeypatch.setattr(zoo, "get_model_weights", lambda name: weights)
        return named

    return publish


@pytest.mark.parametrize("architecture", ["resnet18", "mobilenet_v3_small", "googlenet"])
def test_imagenet_weights_make_the_published_network(
    architecture: str, published: Any, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    options = (
        {"init_weights": False, "transform_input": True} if architecture == "googlenet" else {}
    )
    original = zoo.get_model(architecture, **options).eval()
    published(architecture, original.state_dict())
    name, weights = imagenet_weights(architecture, folders=[tmp_path])
    assert name.startswith("torchvision/")
    classifier = build(architecture, classes=CLASSES, input_size=96)
    adopt(classifier, weights)
    features: list[torch.Tensor] = []
    for network in (original, classifier.eval().network):
        last = [m for m in network.modules() if isinstance(m, torch.nn.Linear)][-1]
        last.register_forward_hook(lambda _m, taken, _o: features.append(taken[0]))
    pictures = torch.rand(2, 3, 96, 96)
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.inference_mode():
        original((pictures - mean) / std)
        classifier(pictures)
    torch.testing.assert_close(features[0], features[1], rtol=1e-4, atol=1e-5)


def test_the_published_stem_takes_imagenet_weights_whole_at_32_px(
    published: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = zoo.resnet34().state_dict()
    published("resnet34", original)
    weights, asked = zoo.get_model_weights("resnet34"), list[str]()
    monkeypatch.setattr(zoo, "get_model_weights", lambda name: asked.append(name) or weights)
    classifier = build("resnet34_7x7", classes=CLASSES, input_size=32)
    adopt(classifier, imagenet_weights("resnet34_7x7", folders=[tmp_path])[1])
    assert asked == ["resnet34"]
    own = classifier.state_dict()
    backbone = [name for name in original if not name.startswith("fc.")]
    assert all(torch.equal(own[f"network.{name}"], original[name]) for name in backbone)


def test_small_residual_networks_take_all_but_their_stem(published: Any, tmp_path: Path) -> None:
    original = zoo.resnet18().state_dict()
    published("resnet18", original)
    classifier = build("resnet18", classes=CLASSES, input_size=32)
    adopt(classifier, imagenet_weights("resnet18", folders=[tmp_path])[1])
    own = classifier.state_dict()
    assert torch.equal(own["network.layer1.0.conv1.weight"], original["layer1.0.conv1.weight"])
    assert own["network.conv1.weight"].shape == (64, 3, 3, 3)


def test_old_names_of_densenet_are_read(published: Any, tmp_path: Path) -> None:
    state = zoo.densenet121().state_dict()
    old = {
        name.replace("norm1", "norm.1").replace("conv2", "conv.2")
        if "denselayer" in name
        else name: v
        for name, v in state.items()
    }
    published("densenet121", old)
    weights = imagenet_weights("densenet121", folders=[tmp_path])[1]
    assert set(weights) == {f"network.{name}" for name in state}


def test_missing_weights_are_named_with_their_place_and_hash(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match=r"begins with f37072fd, at .*/resnet18-"):
        imagenet_weights("resnet18", folders=[tmp_path / "none"])
    with pytest.raises(ValueError, match="no ImageNet weights for lenet"):
        imagenet_weights("lenet", folders=[tmp_path])


def test_other_bytes_are_refused_before_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "resnet18-f37072fd.pth").write_bytes(b"something else")
    with pytest.raises(ModelUnavailableError, match="does not begin with f37072fd"):
        imagenet_weights("resnet18", folders=[tmp_path])


def test_a_pickle_that_runs_code_is_refused(published: Any, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    published("resnet18", {"x": Evil()})
    with pytest.raises(ModelUnavailableError, match="holds no weights"):
        imagenet_weights("resnet18", folders=[tmp_path])
    assert not (tmp_path / "ran").exists()


def test_weights_are_fetched_when_that_is_allowed(published: Any, tmp_path: Path) -> None:
    state = {"fc.weight": torch.ones(2)}
    source = published("resnet18", state, tmp_path / "remote")
    place = tmp_path / "registry"
    with pytest.raises(ModelUnavailableError, match="ALLOW_DOWNLOADS"):
        imagenet_weights("resnet18", folders=[place])
    _, weights = imagenet_weights("resnet18", folders=[place], download_to=place)
    assert weights["network.fc.weight"].tolist() == [1, 1]
    source.unlink()
    imagenet_weights("resnet18", folders=[place])
    (place / source.name).unlink()
    with pytest.raises(ModelUnavailableError, match="cannot be fetched"):
        imagenet_weights("resnet18", folders=[place], download_to=place)


def test_an_estimate_grows_with_the_work_and_changes_nothing() -> None:
    classifier = model()
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    config = settings(epochs=10, batch_size=8)
    few = estimate_seconds(classifier, config, images=64, validation=16)
    many = estimate_seconds(classifier, config, images=64_000, validation=16)
    assert 0 < 50 * few < many
    assert all(torch.equal(before[n], t) for n, t in classifier.state_dict().items())
