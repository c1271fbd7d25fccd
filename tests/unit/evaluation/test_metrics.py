"""Figures against published values, hand-made cases and scikit-learn."""

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score, roc_auc_score

from services.worker.evaluation.metrics import calibration_error, report, wilson


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    # Newcombe 1998, table I, method 3 (Wilson without continuity correction).
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_are_the_published_ones(
    successes: int, total: int, low: float, high: float
) -> None:
    rate = wilson(successes, total)
    assert rate.value == successes / total
    assert (rate.low, rate.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_wilson_of_nothing_and_of_nonsense() -> None:
    nothing = wilson(0, 0)
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high) == (0, 1)
    with pytest.raises(ValueError, match="3 successes of 2"):
        wilson(3, 2)


def test_a_hand_made_confusion() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
    found = report(probabilities, np.array([0, 0, 0, 1, 1]), ["with", "without"])
    assert found.confusion == [[2, 1], [1, 1]]
    assert found.accuracy.value == 3 / 5
    assert found.classes["with"].recall.value == 2 / 3
    assert found.classes["with"].precision == 2 / 3
    assert found.classes["without"].f1 == 1 / 2
    assert found.macro_f1 == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found.weighted_f1 == pytest.approx((3 * 2 / 3 + 2 * 1 / 2) / 5)


def test_agrees_with_scikit_learn_on_three_classes() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 200)
    labels = rng.integers(0, 3, 200)
    predicted = probabilities.argmax(1)
    found = report(probabilities, labels, ["a", "b", "c"])
    assert found.accuracy.value == accuracy_score(labels, predicted)
    assert found.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert found.weighted_f1 == pytest.approx(f1_score(labels, predicted, average="weighted"))
    precision = precision_score(labels, predicted, average=None)
    recall = recall_score(labels, predicted, average=None)
    for i, name in enumerate("abc"):
        assert found.classes[name].precision == pytest.approx(precision[i])
        assert found.classes[name].recall.value == pytest.approx(recall[i])
    assert found.roc_auc is None


def test_the_roc_area_is_that_of_the_second_class() -> None:
    rng = np.random.default_rng(1)
    second = rng.random(100)
    labels = (second + rng.normal(0, 0.3, 100) > 0.5).astype(int)
    found = report(np.stack([1 - second, second], 1), labels, ["a", "b"])
    assert found.roc_auc == pytest.approx(roc_auc_score(labels, second))


def test_a_class_that_never_occurs_counts_nothing() -> None:
    found = report(np.array([[0.9, 0.1], [0.7, 0.3]]), np.array([0, 0]), ["a", "b"])
    assert found.classes["b"].support == 0
    assert math.isnan(found.classes["b"].recall.value)
    assert found.roc_auc is None


def test_calibration_error_of_known_confidence() -> None:
    probabilities = np.tile([0.8, 0.2], (10, 1))
    right_eight_times = np.array([0] * 8 + [1] * 2)
    assert calibration_error(probabilities, right_eight_times) == pytest.approx(0, abs=1e-12)
    right_five_times = np.array([0] * 5 + [1] * 5)
    assert calibration_error(probabilities, right_five_times) == pytest.approx(0.3)
    certain = np.tile([1.0, 0.0], (4, 1))
    assert calibration_error(certain, np.array([0, 0, 1, 1])) == pytest.approx(0.5)
