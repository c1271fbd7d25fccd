"""Reports against scikit-learn and by hand."""

import csv
import io
import json

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from services.worker.evaluation.areas import average_precision, roc_area
from services.worker.evaluation.bootstrap import bootstrap
from services.worker.evaluation.metrics import calibration_error
from services.worker.evaluation.paired import mcnemar
from services.worker.evaluation.pictures import reliability
from services.worker.evaluation.report import full_report

NAMES = ("a", "b", "c")


def answers(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    logits = random.normal(size=(count, classes)) + 1.2 * np.eye(classes)[labels]
    shares = np.exp(logits)
    return shares / shares.sum(1, keepdims=True), labels


def test_areas_agree_with_scikit_learn_ties_included() -> None:
    random = np.random.default_rng(3)
    for levels in (3, 10, 1000):
        scores = random.integers(0, levels, 200) / levels
        positive = random.random(200) < 0.2 + 0.5 * scores
        assert roc_area(scores, positive) == pytest.approx(roc_auc_score(positive, scores))
        expected = average_precision_score(positive, scores)
        assert average_precision(scores, positive) == pytest.approx(expected)


def test_areas_of_one_kind_are_not_defined() -> None:
    assert np.isnan(roc_area(np.array([0.1, 0.2]), np.array([True, True])))
    assert np.isnan(average_precision(np.array([0.1, 0.2]), np.array([False, False])))


def test_figures_agree_with_scikit_learn() -> None:
    probabilities, labels = answers(150, 3)
    groups = [str(i // 2) for i in range(150)]
    whole = full_report(probabilities, labels, NAMES, groups=groups, draws=20).whole
    predicted = probabilities.argmax(1)
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted)
    for i, name in enumerate(NAMES):
        figures = whole.classes[name]
        assert figures.precision.value == pytest.approx(precision[i])
        assert figures.recall.value == pytest.approx(recall[i])
        assert figures.f1.value == pytest.approx(f1[i])
        assert figures.support == support[i]
        assert figures.f1.low < figures.f1.value < figures.f1.high
    assert whole.macro_f1.value == pytest.approx(f1_score(labels, predicted, average="macro"))
    weighted = f1_score(labels, predicted, average="weighted")
    assert whole.weighted_f1.value == pytest.approx(weighted)
    assert whole.accuracy.value == pytest.approx((predicted == labels).mean())
    expected = roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert whole.roc_area.value == pytest.approx(expected)
    assert whole.groups == 75


def test_hand_made_matrix() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]])
    report = full_report(probabilities, np.array([0, 0, 1, 1]), ("x", "y"), groups=list("abcd"))
    assert report.whole.confusion == [[1, 1], [0, 2]]
    assert report.whole.classes["x"].recall.value == 0.5
    assert report.whole.classes["y"].precision.value == pytest.approx(2 / 3)
    assert report.whole.roc_area.value == 0.5  # of 4 pairs, 2 in order


def test_reliability_bins_give_the_calibration_error() -> None:
    probabilities, labels = answers(400, 2)
    bins = reliability(probabilities, labels)
    assert sum(part.count for part in bins) == 400
    gaps = sum(part.count / 400 * abs(part.confidence - part.accuracy) for part in bins)
    assert gaps == pytest.approx(calibration_error(probabilities, labels))


def test_interval_follows_groups_not_images() -> None:
    """Ten copies of each image say no more than one: the interval must stay as wide."""
    random = np.random.default_rng(0)
    right = (random.random(60) < 0.7).astype(float)
    copies = np.repeat(right, 10)

    def interval(values: np.ndarray, groups: list[str]) -> float:
        found = bootstrap(lambda w: {"m": float(values[w].mean())}, groups, seed=1, draws=400)["m"]
        return found.high - found.low

    alone = interval(right, [str(i) for i in range(60)])
    grouped = interval(copies, [str(i // 10) for i in range(600)])
    ignored = interval(copies, [str(i) for i in range(600)])
    assert grouped == pytest.approx(alone, rel=0.15)
    assert ignored < 0.5 * grouped


def test_bootstrap_of_a_mean_agrees_with_the_normal_interval() -> None:
    values = np.random.default_rng(5).normal(size=400)
    groups = [str(i) for i in range(400)]
    found = bootstrap(lambda w: {"m": float(values[w].mean())}, groups, draws=1000)["m"]
    half = 1.96 * values.std() / 20
    assert found.high - found.value == pytest.approx(half, rel=0.15)
    assert found.value - found.low == pytest.approx(half, rel=0.15)


def test_sources_are_reported_apart_and_files_hold_everything() -> None:
    probabilities, labels = answers(80, 2)
    groups, sources = [str(i) for i in range(80)], ["old"] * 30 + ["new"] * 50
    report = full_report(
        probabilities, labels, ("x", "y"), groups=groups, sources=sources, draws=20
    )
    assert {name: part.images for name, part in report.sources.items()} == {"old": 30, "new": 50}
    document = json.loads(report.as_json())
    assert document["sources"]["old"]["accuracy"]["total"] == 30
    lines = list(csv.DictReader(io.StringIO(report.as_csv().decode())))
    assert {line["source"] for line in lines} == {"all", "old", "new"}
    recall = next(
        line
        for line in lines
        if (line["source"], line["class"], line["figure"]) == ("all", "x", "recall")
    )
    assert int(recall["of"]) == report.whole.classes["x"].support


def test_a_missing_class_gives_null_not_zero() -> None:
    probabilities, labels = answers(40, 2)
    padded = np.column_stack([probabilities, np.zeros(40)])
    report = full_report(padded, labels, NAMES, groups=[str(i) for i in range(40)], draws=20)
    assert report.document()["whole"]["classes"]["c"]["f1"]["value"] is None
    assert report.document()["whole"]["classes"]["c"]["recall"]["value"] is None
    assert report.whole.macro_f1.value > 0.5


@pytest.mark.parametrize("labels", [np.array([], dtype=int), np.array([0, 2]), np.array([0])])
def test_refuses_what_does_not_fit(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"no images|labels must lie|do not go with"):
        full_report(np.full((len(labels) or 1, 2), 0.5)[:2], labels, ("x", "y"), groups=["a", "b"])


def test_mcnemar_by_hand() -> None:
    first = np.array([True] * 8 + [False] * 1 + [True] * 5)
    second = np.array([False] * 8 + [True] * 1 + [True] * 5)
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (8, 1)
    assert found.p == pytest.approx(2 * (1 + 9) / 2**9)  # P(at most 1 of 9), twice
    assert mcnemar(first, first).p == 1.0
