"""The detector's figures, by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from services.worker.evaluation.detection import judge_detector

CLEAN = np.array([0.0, 0.1, 0.2, 0.9])
ATTACKED = np.array([0.05, 0.5, 0.95, 1.5, 0.7])
RIGHT = np.array([True, True, True, True, False])
FOOLED = np.array([True, True, True, False, False])
GROUPS = ("a", "b", "c", "d")


def test_counts_by_hand() -> None:
    """Images that the attack failed on are no attacks to detect, however high their scores."""
    found = judge_detector(
        CLEAN,
        ATTACKED,
        right=RIGHT,
        fooled=FOOLED,
        threshold=0.4,
        clean_groups=GROUPS,
        attacked_groups=(*GROUPS, "e"),
        draws=50,
    )
    rates = (found.false_positives, found.detected, found.fooled_undetected)
    assert [(r.successes, r.total) for r in rates if r] == [(1, 4), (2, 3), (1, 4)]
    positive = np.array([0] * 4 + [1] * 3)
    area = roc_auc_score(positive, np.concatenate([CLEAN, ATTACKED[FOOLED]]))
    assert found.roc_area.value == pytest.approx(area)
    assert found.roc_area.low < found.roc_area.value <= found.roc_area.high


def test_a_score_at_the_threshold_is_not_suspicious() -> None:
    found = judge_detector(
        CLEAN,
        CLEAN,
        right=RIGHT[:4],
        fooled=RIGHT[:4],
        threshold=0.9,
        clean_groups=GROUPS,
        attacked_groups=GROUPS,
        draws=10,
    )
    assert found.false_positives
    assert found.false_positives.successes == 0
    assert found.roc_area.value == 0.5


def test_without_a_threshold_there_is_the_area_alone() -> None:
    found = judge_detector(
        CLEAN,
        ATTACKED,
        right=RIGHT,
        fooled=FOOLED & False,
        threshold=None,
        clean_groups=GROUPS,
        attacked_groups=(*GROUPS, "e"),
        draws=10,
    )
    assert (found.false_positives, found.detected, found.fooled_undetected) == (None, None, None)
    assert np.isnan(found.roc_area.value)  # nothing was fooled


def test_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="same attacked images"):
        judge_detector(
            CLEAN,
            ATTACKED,
            right=RIGHT,
            fooled=FOOLED[:2],
            threshold=None,
            clean_groups=GROUPS,
            attacked_groups=GROUPS,
        )
    with pytest.raises(ValueError, match="groups"):
        judge_detector(
            CLEAN,
            ATTACKED,
            right=RIGHT,
            fooled=FOOLED,
            threshold=None,
            clean_groups=GROUPS[:1],
            attacked_groups=(*GROUPS, "e"),
        )
