"""``evaluate``: reports, tables, sweeps, rounds; stops, resumes and refusals."""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from services.worker.datasets.packs import PackedDataset, write_pack
from services.worker.defenses.thresholds import KnownThreshold
from services.worker.jobs.evaluate import detector, job
from services.worker.jobs.evaluate import rounds as evaluate_rounds
from services.worker.jobs.evaluate import rows as evaluate_rows
from services.worker.jobs.evaluate import state as evaluate_work
from services.worker.models.architectures import build
from services.worker.models.registry import pack_weights
from services.worker.stopping import Stopped
from services.worker.training.config import TrainConfig
from services.worker.training.loop import train
from shared.problems import Problem
from shared.results.evaluate import EvaluateResult
from shared.specs.evaluate import EvaluateSpec
from tests.fixtures.packs import pack_folder

ID = "ds_0123456789abcdef01234567"
CLASSES = ("with_mask", "without_mask")
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Pictures whose lower half is dark or bright: learnable, and easy to attack."""
    root = tmp_path_factory.mktemp("faces")
    random = np.random.default_rng(0)
    for split, count in {"train": 24, "test": 30}.items():
        for label, level in zip(CLASSES, (114, 136), strict=True):
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                face = random.integers(60, 200, (24, 24, 3))
                face[12:] = level + random.integers(-50, 50, (12, 24, 3))
                Image.fromarray(face.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return pack_folder(root, dataset_id=ID, layout="classes")


def learned(pack: bytes, name: str, seed: int) -> tuple[Any, bytes]:
    torch.manual_seed(seed)
    data = PackedDataset(pack).labeled("train", size=16, classes=CLASSES)
    classifier = build("cnn", classes=CLASSES, input_size=16)
    train(classifier, data, data, TrainConfig(epochs=6, batch_size=8, max_lr=3e-3, seed=seed))
    return pack_weights(
        classifier,
        id=name,
        task="mask",
        architecture="cnn",
        classes=CLASSES,
        input_size=(16, 16),
        crop_margin=0.0,
        license="test",
        training_data={},
        training={},
    )


@pytest.fixture(scope="module")
def small(pack: bytes) -> tuple[Any, bytes]:
    return learned(pack, "small", 0)


@pytest.fixture
def context(context_of: Make, pack: bytes, small: tuple[Any, bytes]) -> Any:
    made = context_of()
    made.packs[ID] = pack
    made.registered["small"] = small
    return made


def spec(**fields: Any) -> EvaluateSpec:
    given = {"data": {"dataset": ID}, "models": ["small"], "bootstrap": 50, **fields}
    return EvaluateSpec.model_validate(given)


def figures(result: EvaluateResult) -> Any:
    return result.reports, [row.model_copy(update={"cost_ms": 0}) for row in result.rows]


def test_clean_report_has_pictures_and_all_figures(context: Any) -> None:
    result = job.run(context, spec())
    (report,) = result.reports
    assert report.images == report.accuracy.total == 60
    assert (report.accuracy.rate or 0) > 0.8
    assert report.counts == {"with_mask": 30, "without_mask": 30}
    assert report.accuracy.low < (report.accuracy.rate or 0) < report.accuracy.high + 1e-9
    assert result.main_artifact == report.picture
    assert Image.open(io.BytesIO(context.artifacts[report.picture])).format == "PNG"
    document = json.loads(context.artifacts[report.document])
    assert document["whole"]["accuracy"]["successes"] == report.accuracy.successes
    header, *lines = context.artifacts[report.csv].decode().splitlines()
    assert header.split(",")[:3] == ["source", "class", "figure"]
    assert any(line.startswith("all,with_mask,recall,") for line in lines)
    EvaluateResult.model_validate_json(result.model_dump_json())


def test_sources_of_a_data_set_are_judged_apart(context: Any, pack: bytes) -> None:
    """Near-duplicates from two places share a group, and each counts for its own place."""
    whole = PackedDataset(pack)
    places = {"with_mask": ("door", "hall"), "without_mask": ("door", "door")}
    items = [
        item.model_copy(update={"source": places[str(item.label)][n % 2], "group": n // 2})
        for n, item in enumerate(whole.card.items)
    ]
    card = whole.card.model_copy(update={"items": tuple(items)})
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        context.packs[ID] = write_pack(card, [(i.name, archive.read(i.name)) for i in items])
    (report,) = job.run(context, spec()).reports
    assert {name: rate.total for name, rate in report.sources.items()} == {"door": 45, "hall": 15}
    right = sum(rate.successes for rate in report.sources.values())
    assert right == report.accuracy.successes
    lines = context.artifacts[report.csv].decode().splitlines()
    assert any(line.startswith("hall,with_mask,recall,") for line in lines)

    many = [item.model_copy(update={"source": item.name}) for item in items]
    card = card.model_copy(update={"items": tuple(many)})
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        context.packs[ID] = write_pack(card, [(i.name, archive.read(i.name)) for i in items])
    result = job.run(context, spec())
    assert result.reports[0].sources == {}
    assert any("60 sources are too many" in warning for warning in result.warnings)


def test_every_row_is_paired_with_the_undefended_one(context: Any) -> None:
    wanted = spec(
        attacks=[{"name": "fgsm", "eps": 16}, {"name": "pgd", "eps": 16}],
        defenses=[[{"name": "seam_carving"}], [{"name": "bit_depth", "bits": 3}]],
    )
    result = job.run(context, wanted)
    names = [row.defense for row in result.rows]
    assert names.count("none") == 2
    assert names.count("none, from 32 px") == 2  # what carving from 32 px is compared with
    assert names.count("seam_carving") == names.count("bit_depth (bits 3)") == 2
    for row in result.rows:
        assert row.images == 60
        assert row.clean_accuracy.successes == row.adaptive_success.total
        after = row.adaptive_success.total - row.adaptive_success.successes
        assert row.robust_accuracy.successes == after
        defended = not row.defense.startswith("none")
        assert (row.transferred_success is not None) is defended
        assert (row.against_undefended is not None) is defended
    plain = [row for row in result.rows if row.defense == "none"]
    assert plain[1].adaptive_success.successes >= plain[0].adaptive_success.successes > 0
    assert result.main_artifact == "table.png"
    assert len(context.artifacts["table.csv"].decode().splitlines()) == 9
    assert len(json.loads(context.artifacts["table.json"])) == 8


def test_one_call_gives_the_rows_of_the_papers_tables(context: Any, pack: bytes) -> None:
    """Paper 000's Table 1 (pixels by model) and paper 001's figures: clean, FGSM, PGD at .05."""
    context.registered["other"] = learned(pack, "other", 1)
    pixels = [{"name": "de", "pixels": k, "population": 8, "generations": 6} for k in (1, 3, 5)]
    eps = [{"name": name, "eps": 12.75} for name in ("fgsm", "pgd")]
    wanted = spec(models=["small", "other"], attacks=[*pixels, *eps])

    result = job.run(context, wanted)

    assert [report.accuracy.total for report in result.reports] == [60, 60]  # Figure 9: clean
    assert [row.model for row in result.rows] == ["small"] * 5 + ["other"] * 5
    for rows in (result.rows[:5], result.rows[5:]):
        assert [row.parameters.get("pixels") for row in rows[:3]] == [1, 3, 5]
        assert [row.attack.split()[0] for row in rows[3:]] == ["fgsm", "pgd"]
        for row in rows:
            assert row.images == 60
            assert row.adaptive_success.total == row.clean_accuracy.successes
            rate = row.adaptive_success.rate or 0
            assert row.adaptive_success.low - 1e-9 <= rate <= row.adaptive_success.high + 1e-9
        assert rows[2].adaptive_success.successes >= rows[0].adaptive_success.successes
        assert rows[4].robust_accuracy.successes <= rows[3].robust_accuracy.successes
    table = json.loads(context.artifacts["table.json"])
    assert [row["attack"] for row in table] == [row.attack for row in result.rows]
    assert Image.open(io.BytesIO(context.artifacts["table.png"])).format == "PNG"


def test_seams_are_carved_from_the_size_asked_for(context: Any) -> None:
    wanted = spec(
        data={"dataset": ID, "sample": 10},
        attacks=[{"name": "fgsm", "eps": 16}],
        defenses=[[{"name": "seam_carving", "energy": "gradient"}], [{"name": "median"}]],
        cut_size=48,
    )
    names = [row.defense for row in job.run(context, wanted).rows]
    assert names == ["none", "median", "none, from 48 px", "seam_carving (energy gradient)"]
    small = wanted.model_copy(update={"cut_size": 3})
    with pytest.raises(ValueError, match="too large: seam carving grows 3 pixels to at most 12"):
        job.run(context, small)


def test_the_detector_is_judged_on_every_undefended_row(
    context: Any, small: tuple[Any, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = KnownThreshold("small", small[0].sha256, 0.05, 0.05, 1, 40, "clean ones", "0" * 64)
    monkeypatch.setattr(detector, "known_threshold", lambda sha256: known)
    wanted = spec(
        attacks=[{"name": "fgsm", "eps": 1}, {"name": "pgd", "eps": 16}],
        defenses=[[{"name": "seam_carving"}]],
        detector="feature_squeezing",
    )
    result = job.run(context, wanted)
    assert [(row.model, row.attack) for row in result.detectors] == [
        ("small", "fgsm (eps 1)"),
        ("small", "pgd (eps 16)"),
    ]
    plain = [row for row in result.rows if row.defense == "none"]
    for judged, row in zip(result.detectors, plain, strict=True):
        assert judged.threshold == 0.05
        assert judged.calibrated_on == "clean ones"
        assert judged.false_positives
        assert judged.detected
        assert judged.fooled_undetected
        assert judged.false_positives.total == row.images == 60
        assert judged.detected.total == row.adaptive_success.successes
        missed = judged.detected.total - judged.detected.successes
        assert judged.fooled_undetected.successes == missed
        assert judged.fooled_undetected.total == row.adaptive_success.total
    assert result.detectors[0].false_positives == result.detectors[1].false_positives
    area = result.detectors[1].roc_area
    assert area.low is not None
    assert area.high is not None
    assert 0 <= area.low <= (area.value or 0) <= area.high <= 1
    assert Image.open(io.BytesIO(context.artifacts["detection.png"])).format == "PNG"


def test_an_uncalibrated_model_is_said_to_be_so(context: Any) -> None:
    result = job.run(
        context, spec(attacks=[{"name": "pgd", "eps": 16}], detector="feature_squeezing")
    )
    (row,) = result.detectors
    assert (row.threshold, row.false_positives, row.detected) == (None, None, None)
    assert row.roc_area.value is not None
    assert any("not calibrated for small" in warning for warning in result.warnings)
    assert job.run(context, spec(attacks=[{"name": "fgsm"}])).detectors == ()


def test_random_defenses_are_judged_by_draws_of_their_own(context: Any) -> None:
    wanted = spec(
        data={"dataset": ID, "sample": 20},
        attacks=[{"name": "fgsm", "eps": 4}],
        defenses=[[{"name": "bit_depth"}, {"name": "noise", "sigma": 0.1}], [{"name": "jpeg"}]],
        draws=3,
        judged_draws=7,
    )
    plain, noisy, fixed = job.run(context, wanted).rows
    assert plain.draws is fixed.draws is None
    assert noisy.defense == "bit_depth + noise (sigma 0.1)"
    assert noisy.draws
    assert (noisy.draws.judged, noisy.draws.attacked) == (7, 3)
    # Means of shares of sevenths, which the majorities round.
    for mean, rate in (
        (noisy.draws.clean_accuracy, noisy.clean_accuracy),
        (noisy.draws.robust_accuracy, noisy.robust_accuracy),
    ):
        assert mean * 20 * 7 == pytest.approx(round(mean * 20 * 7))
        assert abs(mean - (rate.rate or 0)) < 0.5
    again = job.run(context, wanted).rows[1]
    assert again.model_copy(update={"cost_ms": noisy.cost_ms}) == noisy


def test_smoothing_is_a_row_with_certified_accuracy(context: Any) -> None:
    step = {"name": "smoothing", "sigma": 0.05, "selection": 20, "samples": 40, "alpha": 0.05}
    wanted = spec(
        data={"dataset": ID, "sample": 20},
        attacks=[{"name": "fgsm", "eps": 4}],
        defenses=[[step]],
        draws=2,
    )
    result = job.run(context, wanted)
    plain, smoothed = result.rows
    assert plain.certified is None
    certified = smoothed.certified
    assert certified
    assert (certified.sigma, certified.alpha, certified.samples) == (0.05, 0.05, 40)
    assert [at.radius for at in certified.accuracy] == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])
    held = [at.accuracy.successes for at in certified.accuracy]
    assert held == sorted(held, reverse=True)
    assert held[0] > 0
    assert held[0] + certified.abstained.successes <= 20
    assert smoothed.draws
    assert smoothed.draws.judged == 20
    stored = json.loads(context.artifacts["table.json"])[1]
    assert stored["certified"]["abstained"]["total"] == 20
    EvaluateResult.model_validate_json(result.model_dump_json())


def test_sweep_is_one_job_with_one_plot(context: Any) -> None:
    wanted = spec(
        attacks=[{"name": "fgsm"}, {"name": "pgd", "steps": 3}],
        sweep={"parameter": "eps", "values": [1, 8, 128]},
    )
    result = job.run(context, wanted)
    assert [row.parameters["eps"] for row in result.rows] == [1, 8, 128, 1, 8, 128]
    accuracy = [row.robust_accuracy.rate or 0 for row in result.rows[3:]]
    assert accuracy == sorted(accuracy, reverse=True)
    assert result.sweep == "sweep.png"


def test_weak_attack_is_said_to_be_weak(context: Any) -> None:
    short = {"name": "pgd", "eps": 16, "steps": 2, "step_size": 1, "random_start": False}
    result = job.run(context, spec(attacks=[{"name": "fgsm", "eps": 16}, short]))
    assert any("less than eps" in warning for warning in result.warnings)
    assert any("iterating must not weaken" in warning for warning in result.warnings)


def test_goes_on_after_a_stop_to_the_same_rows(
    context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_work, "CHUNK", 20)
    wanted = spec(
        attacks=[{"name": "sparse_rs", "pixels": 3, "queries": 20}],
        defenses=[[{"name": "noise", "sigma": 0.05}]],
        draws=2,
    )
    whole = job.run(context, wanted)
    context.checkpoint = None
    attacked: list[int] = []
    attack = evaluate_rows.attack_images

    def stopping(*given: Any, **fields: Any) -> Any:
        if len(attacked) == 4:
            raise Stopped("canceled")
        attacked.append(fields["indices"][0])
        return attack(*given, **fields)

    monkeypatch.setattr(evaluate_rows, "attack_images", stopping)
    with pytest.raises(Stopped, match="canceled"):
        job.run(context, wanted)
    attacked.clear()
    rest = job.run(context, wanted)
    assert attacked == [20, 40]  # of six chunks four were done
    assert figures(rest) == figures(whole)


def test_says_first_how_long_it_will_take(context: Any) -> None:
    result = job.run(context, spec(attacks=[{"name": "fgsm"}]))
    done, total, message = context.reports[0]
    assert (done, "at most about" in message) == (0, True)
    assert context.figures[0]["estimated_seconds"] == result.estimated_seconds > 0
    numbers = [done for done, _, _ in context.reports]
    assert numbers == sorted(numbers)
    assert numbers[-1] < total


def test_carving_from_256_pixels_says_its_time_first_and_goes_on_after_a_stop(
    context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,100 queries of 256 px each are announced; a few of them are made."""
    wanted = spec(
        data={"dataset": ID, "sample": 16},
        attacks=[{"name": "de", "population": 100, "generations": 100}],
        defenses=[
            [{"name": "seam_carving", "energy": "gradient"}],
            [{"name": "noise"}, {"name": "seam_carving", "energy": "gradient"}],
        ],
        draws=2,
        judged_draws=3,
        cut_size=256,
    )
    attack = evaluate_rows.attack_images
    parts: list[tuple[int, list[int]]] = []
    stop_at = 5

    def short(setting: Any, evolution: Any, *given: Any, **fields: Any) -> Any:
        assert context.figures[0]["estimated_seconds"] > 0, "said before anything is attacked"
        if len(parts) == stop_at:
            raise Stopped("canceled")
        parts.append((setting.side, list(fields["indices"])))
        return attack(setting, replace(evolution, population=8, generations=0), *given, **fields)

    monkeypatch.setattr(evaluate_rows, "attack_images", short)
    with pytest.raises(Stopped, match="canceled"):
        job.run(context, wanted)
    stop_at = -1
    result = job.run(context, wanted)
    assert parts[0] == (16, list(range(16)))
    thirds = [[*range(7)], [*range(7, 14)], [14, 15]]
    assert parts[1:] == [(256, part) for part in 3 * thirds], "each part once, in spite of the stop"
    assert [row.images for row in result.rows] == [16] * 4
    draws = [row.draws.attacked if row.draws else 1 for row in result.rows]
    costs = [n * row.cost_ms for n, row in zip(draws, result.rows, strict=True)]
    expected = 16 * 10_100 * sum(costs) / 1000
    assert expected / 4 < (result.estimated_seconds or 0) < expected * 4


@pytest.mark.slow
def test_rounds_learn_from_training_images_only(
    context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[Any] = []
    retrain = evaluate_rounds.cycle.retrain

    def watched(classifier: Any, training: Any, finds: Any, **fields: Any) -> Any:
        learned.append(set(training.groups))
        return retrain(classifier, training, finds, **fields)

    monkeypatch.setattr(evaluate_rounds.cycle, "retrain", watched)
    result = job.run(context, spec(attacks=[{"name": "fgsm", "eps": 16}], rounds=2, finds=30))
    assert [found.round for found in result.rounds] == [0, 1, 2]
    assert [found.finds for found in result.rounds] == sorted(r.finds for r in result.rounds)
    assert result.rounds[1].finds > 0
    assert all(found.clean.total == 60 for found in result.rounds)
    items = PackedDataset(context.packs[ID]).items("train")
    assert learned[0] <= {f"{ID}/{item.group}" for item in items}
    assert result.cycle == "cycle.png"


def test_uploaded_images_with_labels(context_of: Make, small: Any) -> None:
    dark, bright = (Image.new("RGB", (20, 20), (level,) * 3) for level in (90, 150))
    context = context_of(dark, bright)
    context.registered["small"] = small
    wanted = EvaluateSpec(images=context.ids, labels=CLASSES, models=("small",), bootstrap=50)
    assert job.run(context, wanted).reports[0].accuracy.total == 2
    other = EvaluateSpec(images=context.ids, labels=("cat", "dog"), models=("small",))
    with pytest.raises(Problem, match="cat, dog is no label"):
        job.run(context, other)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"data": None}, "give either `data`"),
        ({"labels": ["with_mask"]}, "one each"),
        ({"defenses": [[{"name": "jpeg"}]]}, "measured under attack"),
        (
            {
                "attacks": [{"name": "fgsm"}],
                "defenses": [[{"name": "smoothing"}, {"name": "jpeg"}]],
            },
            "last step",
        ),
        ({"detector": "feature_squeezing"}, "measured under attack"),
        ({"sweep": {"parameter": "eps", "values": [1, 2]}}, "no attack here"),
        (
            {"attacks": [{"name": "pgd"}], "sweep": {"parameter": "steps", "values": [1, 2.5]}},
            "takes integers",
        ),
        ({"rounds": 1}, "exactly one attack"),
        (
            {
                "data": {"dataset": ID, "split": "train"},
                "attacks": [{"name": "fgsm"}],
                "rounds": 1,
            },
            "train on the split `train`",
        ),
        (
            {
                "attacks": [{"name": "fgsm"}],
                "defenses": [[{"name": "seam_carving", "protect_face": True}]],
            },
            "no face box",
        ),
        (
            {"attacks": [{"name": "fgsm"}], "defenses": [[{"name": "median"}]], "cut_size": 64},
            "no defense here carves seams",
        ),
        (
            {
                "attacks": [{"name": "fgsm"}],
                "defenses": [[{"name": "seam_carving", "energy": "depth"}]],
            },
            "energy",
        ),
        ({"models": ["small", "small"]}, "contains a duplicate"),
    ],
)
def test_refuses(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        spec(**wrong)
