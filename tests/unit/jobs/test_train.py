"""``train``: from data sets to a registered model, through stops and resumes."""

import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load

from services.worker.jobs.kit import checkpoint
from services.worker.jobs.kit.models import mask_model
from services.worker.jobs.train import job
from services.worker.jobs.train.plan import make_plan
from services.worker.models.architectures import ARCHITECTURES
from services.worker.models.registry import find_models
from services.worker.stopping import Stopped
from shared.model_card import ModelCard
from shared.problems import Problem
from shared.results.train import TrainResult
from shared.specs import SPECS
from shared.specs.train import TASK_CLASSES, WITHOUT_IMAGENET, TrainSpec
from shared.specs.train import Architecture as ArchitectureName
from tests.fixtures.packs import pack_folder

ID = "ds_0123456789abcdef01234567"
OTHER = "ds_0123456789abcdef01234568"
COUNTS = {"train": 24, "val": 8, "test": 10}
# Colors of the classes' lower half, as masks are.
COLORS = {"with_mask": 40, "without_mask": 150, "mask_weared_incorrect": 240}
Make = Callable[..., Any]


def faces(root: Path, labels: tuple[str, ...], counts: dict[str, int] = COUNTS) -> Path:
    random = np.random.default_rng(0)
    for split, count in counts.items():
        for label in labels:
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                face = random.integers(60, 200, (24, 24, 3))
                face[12:] = COLORS.get(label, 90) + random.integers(-30, 15, (12, 24, 3))
                Image.fromarray(face.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    root = faces(tmp_path_factory.mktemp("faces") / "two", TASK_CLASSES["mask"])
    return pack_folder(root, dataset_id=ID, layout="classes")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    root = faces(tmp_path_factory.mktemp("faces") / "three", TASK_CLASSES["mask3"])
    return pack_folder(root, dataset_id=ID, layout="classes")


@pytest.fixture
def context(context_of: Make, binary: bytes) -> Any:
    made = context_of()
    made.packs[ID] = binary
    return made


def spec(**fields: Any) -> TrainSpec:
    settings = {"epochs": 3, "batch_size": 8, "max_lr": 3e-3, **fields.pop("settings", {})}
    return TrainSpec.model_validate(
        {
            "datasets": [ID],
            "model_id": "mine",
            "architecture": "cnn",
            "input_size": 16,
            "hyperparameters": settings,
            **fields,
        }
    )


def run(context: Any, wanted: TrainSpec) -> TrainResult:
    """Run a job of its own in this context."""
    context.checkpoint = None
    return job.run(context, wanted)


def weights(context: Any, name: str = "mine") -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load(context.registered[name][1])
    return found


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def figures(result: TrainResult) -> Any:
    return result.epochs, result.best_epoch, result.validation, result.test


def test_makes_a_model_that_can_be_used(context: Any) -> None:
    result = job.run(context, spec(settings={"epochs": 8}))

    told = [data for kind, data in context.events if kind == "epoch"]
    assert told == [{"phase": "student", **epoch.model_dump()} for epoch in result.epochs]
    assert result.data.training == {"with_mask": 24, "without_mask": 24}
    assert result.data.test == {"with_mask": 10, "without_mask": 10}
    assert result.test is not None
    assert result.test.accuracy.total == 20
    assert (result.test.accuracy.rate or 0) > 0.9
    assert result.test.accuracy.low < (result.test.accuracy.rate or 0) <= result.test.accuracy.high
    assert set(result.test.recall) == {"with_mask", "without_mask"}
    assert len(result.epochs) == 8
    assert 0 < result.data_share < 1
    assert Image.open(io.BytesIO(context.artifacts[result.curves])).format == "PNG"
    card = context.registered["mine"][0]
    assert card.sha256 == result.model.sha256
    assert card.training_data["fingerprint"] == result.data.training_fingerprint
    assert card.training["spec"]["seed"] == 0
    assert card.metrics["test_accuracy"]["total"] == 20
    assert '"model": "mine"' in result.how_to_use
    loaded = mask_model(context, model_id="mine")
    pictures = torch.zeros(1, 3, 16, 16)
    pictures[:, :, :8] = 0.5
    pictures[:, :, 8:] = COLORS["without_mask"] / 255
    assert loaded.card.classes[int(loaded.classifier(pictures).argmax())] == "without_mask"
    TrainResult.model_validate_json(result.model_dump_json())


def test_says_first_how_long_it_will_take_and_then_how_it_goes(context: Any) -> None:
    result = job.run(context, spec())
    done, _, message = context.reports[0]
    assert done == 0
    assert "at most about" in message
    assert context.figures[0]["estimated_seconds"] == result.estimated_seconds > 0
    live = [f for f in context.figures if "loss" in f]
    assert len(live) == 3 * 6  # 48 images in batches of 8
    assert {f["epoch"] for f in live} == {1, 2, 3}
    assert all(0 <= f["accuracy"] <= 1 and f["seconds_left"] >= 0 for f in live)
    assert live[-1]["val_accuracy"] == round(result.epochs[1].val_accuracy, 5)
    steps = [done for done, _, message in context.reports if message.startswith("epoch")]
    assert steps == sorted(steps)
    assert context.reports[-1][0] < context.reports[-1][1]


def test_learns_the_three_classes_of_wearing(context: Any, three: bytes) -> None:
    context.packs[ID] = three
    result = job.run(context, spec(task="mask3", settings={"epochs": 12, "balance": "weights"}))
    assert result.model.classes == TASK_CLASSES["mask3"]
    assert result.test is not None
    assert all((recall.rate or 0) > 0.8 for recall in result.test.recall.values())
    assert mask_model(context, model_id="mine").card.task == "mask3"


class Killed(BaseException):
    pass


def kill_at(context: Any, times: int, stop: Stopped) -> None:
    """Let the ``times``-th look at a batch's figures be the last."""
    calls = itertools.count(1)
    progress = type(context).progress

    def watched(done: int, total: int, message: str = "", **data: Any) -> None:
        progress(context, done, total, message, **data)
        if "loss" in data and next(calls) == times:
            raise stop

    context.progress = watched


@pytest.mark.parametrize("at", [3, 6, 7, 16])  # within an epoch, at its end, after it, in the last
@pytest.mark.parametrize(
    "robust", [None, {"name": "pgd", "steps": 2}, {"name": "pixels", "tries": 2}]
)
def test_a_killed_job_goes_on_to_the_same_model(
    context_of: Make, binary: bytes, monkeypatch: pytest.MonkeyPatch, at: int, robust: Any
) -> None:
    monkeypatch.setattr(checkpoint, "OFFER_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    whole, broken, again = (context_of() for _ in range(3))
    for made in (whole, broken, again):
        made.packs[ID] = binary
    wanted = spec(robust=robust)
    expected = job.run(whole, wanted)
    kill_at(broken, at, Killed())
    with pytest.raises(Killed):
        job.run(broken, wanted)
    assert (broken.checkpoint is None) is (at == 1)
    again.checkpoint = broken.checkpoint
    torch.manual_seed(99)
    resumed = job.run(again, wanted)
    assert len([f for f in again.figures if "loss" in f]) == 18 - (at - 1)
    assert figures(resumed) == figures(expected)
    assert same(weights(again), weights(whole))


@pytest.mark.parametrize("at", [4, 16, 19, 30])
def test_a_killed_distillation_goes_on_to_the_same_model(
    context_of: Make, binary: bytes, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(checkpoint, "OFFER_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    whole, broken = (context_of() for _ in range(2))
    for made in (whole, broken):
        made.packs[ID] = binary
    wanted = spec(robust={"name": "distillation", "temperature": 10})
    expected = job.run(whole, wanted)
    assert {f["phase"] for f in whole.figures if "loss" in f} == {"teacher", "student"}
    kill_at(broken, at, Killed())
    with pytest.raises(Killed):
        job.run(broken, wanted)
    del broken.progress
    assert figures(job.run(broken, wanted)) == figures(expected)
    assert same(weights(broken), weights(whole))


@pytest.mark.parametrize("stop", [Stopped("canceled"), Stopped("deadline")])
def test_a_stopped_job_keeps_the_best_model_so_far(context: Any, stop: Stopped) -> None:
    kill_at(context, 15, stop)
    with pytest.raises(Stopped) as caught:
        job.run(context, spec())
    assert caught.value is stop
    card, _ = context.registered["mine"]
    assert card.training["stopped"]
    assert card.training["epochs"] == 2
    assert card.metrics["test_accuracy"] is None
    assert card.metrics["validation_accuracy"]["total"] == 16
    assert mask_model(context, model_id="mine").card == card


def test_a_job_canceled_while_it_is_judged_keeps_its_model(context: Any) -> None:
    progress = type(context).progress

    def watched(done: int, total: int, message: str = "", **data: Any) -> None:
        progress(context, done, total, message, **data)
        if "judging" in message:
            context.stop = Stopped("canceled")

    context.progress = watched
    with pytest.raises(Stopped, match="canceled"):
        job.run(context, spec())
    card, _ = context.registered["mine"]
    assert card.training["epochs"] == 3


@pytest.mark.parametrize("stop", [Stopped("canceled"), Stopped("lease lost")])
def test_a_job_stopped_early_or_lost_registers_nothing(context: Any, stop: Stopped) -> None:
    kill_at(context, 3 if stop.ends_job else 15, stop)
    with pytest.raises(Stopped) as caught:
        job.run(context, spec())
    assert caught.value is stop
    assert not context.registered


def test_starts_from_a_model_and_names_it(context: Any) -> None:
    run(context, spec(model_id="first", settings={"epochs": 8}))
    begin = {"source": "model", "model": "first"}
    frozen = spec(
        initialization=begin, method={"name": "features"}, settings={"epochs": 1, "max_lr": 1e-6}
    )
    result = run(context, frozen)
    assert result.model.lineage == ("first",)
    assert [used.id for used in result.models] == ["first"]
    first, mine = weights(context, "first"), weights(context)
    changed = {name for name in first if not torch.equal(first[name], mine[name])}
    assert changed == {"network.head.5.weight", "network.head.5.bias"}
    assert any("features of" in message for _, _, message in context.reports)
    # The same classes keep the head, too: hardly anything was learned, and little is forgotten.
    assert ((result.test and result.test.accuracy.rate) or 0) > 0.9
    tuned = spec(
        model_id="second",
        initialization={"source": "model", "model": "mine"},
        method={"name": "finetune", "frozen_epochs": 1},
        architecture=None,
        input_size=None,
    )
    second = run(context, tuned).model
    assert second.lineage == ("mine", "first")
    assert (second.architecture, second.input_size) == ("cnn", (16, 16))
    with pytest.raises(Problem) as refused:
        run(context, spec(model_id="x", architecture="lenet", initialization=begin))
    assert refused.value.slug == "invalid-input"
    other = {"source": "model", "model": "nobody"}
    with pytest.raises(Problem) as refused:
        run(context, spec(model_id="x", initialization=other))
    assert refused.value.slug == "unknown-model"


def test_distills_a_registered_teacher(context: Any) -> None:
    run(context, spec(model_id="wise", settings={"epochs": 8}))
    robust = {"name": "distillation", "teacher": "wise", "temperature": 5}
    result = run(context, spec(robust=robust, settings={"epochs": 8}))
    assert result.model.lineage == ("wise",)
    assert {f["phase"] for f in context.figures if "loss" in f} == {"student"}
    assert ((result.test and result.test.accuracy.rate) or 0) > 0.9
    with pytest.raises(Problem, match="input of 16 px"):
        run(context, spec(model_id="x", robust=robust, input_size=24))


def test_missing_imagenet_weights_are_a_clear_problem(
    context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nowhere"))
    wanted = spec(architecture="resnet18", input_size=32, initialization={"source": "imagenet"})
    with pytest.raises(Problem, match="f37072fd") as refused:
        job.run(context, wanted)
    assert refused.value.slug == "model-unavailable"
    assert refused.value.status == 409
    assert str(context.settings.registry_dir / "torchvision") in refused.value.detail


def test_a_taken_name_is_refused_before_the_work_but_not_to_its_own_job(context: Any) -> None:
    job.run(context, spec())
    job.run(context, spec())  # a worker died after it had registered the model
    context.job_id = "job_1"
    with pytest.raises(Problem) as refused:
        job.run(context, spec())
    assert refused.value.slug == "model-exists"
    with pytest.raises(Problem, match="'mask-cnn-32' already"):
        job.run(context, spec(model_id="mask-cnn-32"))


def test_data_sets_join_and_labels_can_be_renamed(
    context: Any, three: bytes, tmp_path: Path
) -> None:
    root = faces(tmp_path / "named", ("mask", "bare"), {"train": 10})
    context.packs |= {ID: three, OTHER: pack_folder(root, dataset_id=OTHER, layout="classes")}
    rename = {
        "mask": "with_mask",
        "bare": "without_mask",
        "mask_weared_incorrect": "without_mask",
    }
    result = job.run(context, spec(datasets=[ID, OTHER], rename=rename, settings={"epochs": 1}))
    # Of the second set, which has no validation images, a share was held out.
    assert result.data.training == {"with_mask": 24 + 8, "without_mask": 48 + 8}
    assert result.data.validation == {"with_mask": 8 + 2, "without_mask": 16 + 2}


def test_a_set_without_splits_is_split_and_says_so(context: Any, tmp_path: Path) -> None:
    root = faces(tmp_path / "plain", ("cat", "dog"), {"train": 20})
    context.packs[ID] = pack_folder(root, dataset_id=ID, layout="classes")
    result = job.run(context, spec(task="pets", validation_share=0.25, settings={"epochs": 1}))
    assert result.model.classes == ("cat", "dog")
    assert result.data.validation == {"cat": 5, "dog": 5}
    assert result.data.validation_carved
    assert result.test is None
    assert "no `test` split" in result.warnings[0]
    assert "GET /v1/models/mine" in result.how_to_use


def test_people_can_be_learned_too(context: Any, tmp_path: Path) -> None:
    root = faces(tmp_path / "people", ("Ada", "Grace", "Hedy"), {"train": 6})
    context.packs[ID] = pack_folder(root, dataset_id=ID, layout="identities")
    wanted = spec(task="identity", architecture="resnet18", settings={"epochs": 1})
    result = job.run(context, wanted)
    assert result.model.classes == ("Ada", "Grace", "Hedy")
    assert result.data.validation == {"Ada": 1, "Grace": 1, "Hedy": 1}


def test_too_many_images_for_the_memory_are_refused(
    context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.worker.jobs.train.inputs.MEMORY_SHARE", 1e-9)
    with pytest.raises(Problem, match="GiB of this worker's memory"):
        job.run(context, spec())


def test_data_without_a_class_are_refused(context: Any) -> None:
    with pytest.raises(ValueError, match="no training image of the class 'mask_weared_incorrect'"):
        job.run(context, spec(task="mask3"))


def test_presets_give_way_to_what_is_named() -> None:
    cpu = torch.device("cpu")
    bare = TrainSpec(datasets=(ID,), model_id="x", preset="paper-001")
    plan = make_plan(bare, TASK_CLASSES["mask"], cpu)
    assert (plan.architecture, plan.size) == ("mobilenet_v3_small", 224)
    assert (plan.config.batch_size, plan.config.optimizer, plan.config.bf16) == (100, "sgd", False)
    assert plan.config.augmentation.flip == 0
    changed = spec(
        preset="paper-001",
        architecture="densenet121",
        input_size=None,
        settings={"epochs": 5, "augmentation": {"flip": 0.5}, "precision": "bfloat16"},
    )
    plan = make_plan(changed, TASK_CLASSES["mask"], cpu)
    assert (plan.architecture, plan.size, plan.config.epochs) == ("densenet121", 224, 5)
    assert plan.config.augmentation.flip == 0.5
    assert plan.config.augmentation.rotation == 0
    assert plan.config.bf16


def test_what_a_model_starts_from_decides_what_is_left_open() -> None:
    cpu, classes = torch.device("cpu"), TASK_CLASSES["mask"]
    bare = TrainSpec(datasets=(ID,), model_id="x")
    cards = {name: find_models()[name][0] for name in ("mask-cnn-32", "face-student-112")}
    cnn, recognizer = cards["mask-cnn-32"], cards["face-student-112"]

    def decided(source: ModelCard | None, **fields: Any) -> tuple[str, int]:
        plan = make_plan(bare.model_copy(update=fields), classes, cpu, source=source)
        return plan.architecture, plan.size

    assert decided(cnn) == ("cnn", 32)
    assert decided(cnn.model_copy(update={"input_size": (48, 48)})) == ("cnn", 48)
    assert decided(cnn, input_size=64) == ("cnn", 64)
    assert decided(cnn, architecture="lenet")[0] == "lenet"  # which `start` will refuse
    assert decided(cnn, preset="paper-001")[0] == "cnn"
    wide = cnn.model_copy(update={"architecture": "mobilenet_v3_small"})
    assert decided(wide, preset="paper-001") == ("mobilenet_v3_small", 224)
    assert decided(recognizer)[0] == decided(None)[0] == "mobilenet_v3_small"


def test_the_same_seed_gives_the_same_weights(context: Any) -> None:
    made = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(context, spec(model_id=name, seed=seed, settings={"epochs": 1}))
        made[name] = weights(context, name)
    assert same(made["a"], made["b"])
    assert not same(made["a"], made["c"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"initialization": {"source": "imagenet"}}, "no ImageNet weights for `cnn`"),
        ({"method": {"name": "features"}}, "needs a trained backbone"),
        (
            {
                "method": {"name": "features"},
                "robust": {"name": "fgsm"},
                "initialization": {"source": "model", "model": "m"},
            },
            "features cannot be cached",
        ),
        ({"classes": ["a", "b"]}, "classes of the task `mask`"),
        ({"task": "t", "classes": ["a", "a"]}, "contains a duplicate"),
        ({"datasets": [ID, ID]}, "contains a duplicate"),
        ({"initialization": {"source": "model", "model": "mine"}}, "cannot also be its source"),
        ({"settings": {"epochs": 0}}, "greater than or equal to 1"),
        ({"settings": {"batch_size": 1}}, "greater than or equal to 2"),
        ({"architecture": "alexnet"}, "Input should be"),
        ({"model_id": "../x"}, "pattern"),
        ({"robust": {"name": "pgd", "eps": 0}}, "greater than or equal to 1"),
    ],
)
def test_a_senseless_spec_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        spec(**fields)


def test_a_spec_names_what_it_reads() -> None:
    wanted = spec(
        initialization={"source": "model", "model": "a"},
        robust={"name": "distillation", "teacher": "b"},
        max_hours=2,
    )
    assert wanted.dataset_ids == (ID,)
    assert wanted.model_ids == ("a", "b")
    assert wanted.timeout_seconds == 7200
    assert SPECS["train"] is TrainSpec
    assert ArchitectureName.__args__ == ARCHITECTURES
    assert set(WITHOUT_IMAGENET) < set(ARCHITECTURES)
