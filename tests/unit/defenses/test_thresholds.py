"""Thresholds on disk: found by the weights' hash, refused when they make no sense."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.worker.defenses.thresholds import (
    KnownThreshold,
    known_threshold,
    read_thresholds,
    write_thresholds,
)
from services.worker.models.registry import find_models

KNOWN = KnownThreshold(
    model="a",
    sha256="0" * 64,
    threshold=0.25,
    target=0.05,
    alarms=5,
    images=100,
    data="clean ones",
    fingerprint="1" * 64,
)


def test_every_shipped_mask_classifier_is_calibrated_for_the_very_weights() -> None:
    """If this fails after training: `python -m research.train.detector_threshold`."""
    cards = [card for card, _ in find_models().values() if card.task in ("mask", "mask3")]
    assert len(cards) >= 3
    for card in cards:
        known = known_threshold(card.sha256)
        assert known is not None, card.id
        assert known.model == card.id
        assert known.target == 0.05
        assert 0 < known.alarms / known.images <= known.target
        assert "test" not in known.data


def test_other_weights_have_no_threshold() -> None:
    assert known_threshold("f" * 64) is None


def test_thresholds_survive_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    write_thresholds([KNOWN], path)
    assert read_thresholds(path) == (KNOWN,)


@pytest.mark.parametrize(
    "wrong",
    [{"threshold": 2.5}, {"threshold": float("nan")}, {"alarms": 101}, {"color": "red"}],
)
def test_bad_files_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps([{**vars(KNOWN), **wrong}]))
    with pytest.raises(ValueError, match=r"threshold|alarms"):
        read_thresholds(path)
